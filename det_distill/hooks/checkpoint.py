"""Checkpoints that a kill at any moment leaves resumable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.hooks
from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from det_distill.compat.whole_files import PART
from det_distill.hooks.loop import by_epoch

VALIDATED = "validated"  # in the message hub, and so in the checkpoint: how far the run was at its last validation

RUNNERS_OWN = ("meta", "state_dict", "message_hub", "optimizer", "param_schedulers")


@HOOKS.register_module()
class CheckpointHook(mmengine.hooks.CheckpointHook):
    """MMEngine's hook, with which a run may be killed at any moment and loses no more than it did since the last save.

    - An old checkpoint, or the best one so far, is removed only when what replaces it lies whole on the disk. So the
      disk needs room for one more than `max_keep_ckpts`, and a kill may leave one file too many, never one too few.
    - A checkpoint of an epoch (or iteration) that is validated is written again after it, for it then knows the best
      result, the schedules that follow results, and the random streams as the next epoch finds them.
    - A resumed run first makes up for the validation that its checkpoint should have seen and did not. Nothing tells
      whether one that MMEngine's own hook wrote has; it is validated again.

    Before each save every process is asked, by the hook method `before_checkpoint_of_all_ranks`, for what the process
    that writes cannot know.

    Why the name is MMEngine's: in the scope "mmdet" this class comes first, so that every stock config has it as soon
    as `det_distill.plugins` is imported; `type="mmengine.CheckpointHook"` is still the other one.
    """

    priority = 95  # below VERY_LOW: random streams are set again before a missed validation draws from them

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.file_backend: Any = None
        self._newest: int | None = None  # the epoch or iteration of the checkpoint written last
        self._outdated = False  # a validation came after it
        self._loaded: dict[str, Any] = {}  # what hooks keep in a checkpoint, until training begins

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            self._loaded = {key: value for key, value in checkpoint.items() if key not in RUNNERS_OWN}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        for key, value in self._loaded.items():
            checkpoint.setdefault(key, value)  # of a hook that learns what to save by the first step

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if isinstance(self.file_backend, LocalBackend) and is_main_process():
            for part in Path(self.out_dir).glob(f"*.pth{PART}"):
                part.unlink()
        self.file_backend = _Patient(self.file_backend)
        if _validation_due(runner) and runner.message_hub.get_info(VALIDATED) != _done(runner):
            runner.logger.info("the checkpoint has not seen its validation, which is made up for now")
            self._newest = runner.epoch if self.by_epoch else runner.iter
            runner.val_loop.run()
        self._loaded = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        runner.message_hub.update_info(VALIDATED, _done(runner))
        step = runner.epoch if self.by_epoch else runner.iter
        self._outdated = self._newest == step
        super().after_val_epoch(runner, metrics)
        if self._outdated:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))
        if isinstance(self.file_backend, _Patient):  # not where only `Runner.val` runs
            self.file_backend.remove_now()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        runner.call_hook("before_checkpoint_of_all_ranks")
        super()._save_checkpoint_with_step(runner, step, meta)
        self.file_backend.remove_now()
        self._newest, self._outdated = step, False


class _Patient:
    """A file backend whose removals wait until they are asked for."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._waiting: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._waiting.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._waiting.append((self._backend.rmtree, path))

    def remove_now(self) -> None:
        while self._waiting:
            act, path = self._waiting.pop()
            act(path)


def _done(runner: Runner) -> int:
    """Epochs or iterations, whichever the train loop validates by."""
    return int(runner.epoch if by_epoch(runner) else runner.iter)


def _validation_due(runner: Runner) -> bool:
    """Where a run stands now, its loop has just validated, or would have."""
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
        return False
    loop._decide_current_val_interval()  # as the loop does after every epoch or iteration
    done, last = _done(runner), loop.max_epochs if by_epoch(runner) else loop.max_iters
    return 0 < done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
