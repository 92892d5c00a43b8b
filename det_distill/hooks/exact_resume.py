"""Resume as if never interrupted: the random streams travel with the checkpoint."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from det_distill.compat.data_replay import load_what_is_skipped
from det_distill.hooks.loop import by_epoch
from det_distill.randomness import branch, capture, restore, restore_torch

KEY = "random_streams"


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Saves torch's, numpy's and Python's random streams of every process and sets them again on resume.

    MMDetection samples proposals from the global stream, so without this a resumed run differs from the
    uninterrupted one from its first step. Exact where data workers do not outlive an epoch
    (`persistent_workers=False`) or there are none, on as many processes as before, and beside this package's
    `CheckpointHook`, which sees to it that a validation between checkpoint and next step has drawn its loader's seed.

    Why the streams are set where they are: an epoch-based run draws its data loader's seed when the epoch
    begins, so all streams go back before training. An iteration-based run then replays its data up to the checkpoint
    from the streams it began with, numpy's and Python's included, so at its first step only torch's goes back.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._gathered: list[dict[str, Any]] | None = None  # by rank, until the checkpoint is written
        self._loaded: list[dict[str, Any]] | None = None  # by rank, until training starts
        self._begun: dict[str, Any] | None = None  # the streams that an iteration-based run replays its data from
        self._next: dict[str, Any] | None = None  # and those of its first step

    def before_checkpoint_of_all_ranks(self, runner: Runner) -> None:
        self._gathered = all_gather_object(capture())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self._gathered or [capture()]  # MMEngine's own hook asks this process alone
        self._gathered = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not runner._resume:
            return
        if KEY not in checkpoint:
            runner.logger.warning(f"the checkpoint has no entry '{KEY}'; the resumed run will draw other samples")
            return
        found = checkpoint[KEY]
        self._loaded = [found] if isinstance(found, dict) else found  # a dict: written before there was one per rank
        if len(self._loaded) != runner.world_size:
            runner.logger.warning(
                f"the checkpoint has random streams of {len(self._loaded)} processes, but {runner.world_size} run now: "
                "the run goes on, but not to the bit as it would have"
            )

    def before_train(self, runner: Runner) -> None:
        if self._loaded is None:
            return
        if not by_epoch(runner):
            load_what_is_skipped(runner.train_loop)
            self._begun = capture()
        if runner.rank < len(self._loaded):
            restore(self._loaded[runner.rank])
        else:
            branch(self._loaded[0], runner.rank)
        self._loaded = None

    def before_train_epoch(self, runner: Runner) -> None:
        if self._begun is not None:
            self._next = capture()
            restore(self._begun)
            self._begun = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._next is not None:
            restore_torch(self._next)
            self._next = None
