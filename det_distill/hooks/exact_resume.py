"""Resume as if never interrupted: the random streams travel with the checkpoint."""

from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from det_distill.randomness import capture, restore, restore_torch

KEY = "random_streams"


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Saves torch's, numpy's and Python's random streams and sets them again on resume.

    MMDetection samples proposals from the global stream, so without this a resumed run differs from the
    uninterrupted one from its first step. Exact where data workers do not outlive an epoch
    (`persistent_workers=False`) or there are none.

    Why the streams are set where they are: an epoch-based run draws its data loader's seed when the epoch
    begins, so all streams go back before training. An iteration-based run has by then replayed its data up to
    the checkpoint, numpy's and Python's streams included, so only torch's goes back, at the first step.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = capture()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not runner._resume:
            return
        if KEY not in checkpoint:
            runner.logger.warning(f"the checkpoint has no entry '{KEY}'; the resumed run will draw other samples")
        self._state = checkpoint.get(KEY)

    def before_train(self, runner: Runner) -> None:
        if self._state is None or not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        restore(self._state)
        self._state = None
        if self._validated(runner):  # the uninterrupted run's validation drew one loader seed after the checkpoint
            torch.empty((), dtype=torch.int64).random_()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._state is not None:
            restore_torch(self._state)
            self._state = None

    @staticmethod
    def _validated(runner: Runner) -> bool:
        loop = runner.train_loop
        due = runner.epoch >= loop.val_begin and runner.epoch % loop.val_interval == 0
        return runner.val_loop is not None and due
