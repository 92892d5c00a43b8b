"""A progress bar where somebody watches; the log lines stay MMEngine's."""

import sys
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """One bar for the training, one for each evaluation; nothing where stderr is no terminal."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def _start(self, what: str, total: int, done: int = 0) -> None:
        self._stop()
        if sys.stderr.isatty():
            columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.add_task(what, total=total, completed=done)
            self._bar.start()

    def _step(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def before_train_epoch(self, runner: Runner) -> None:
        self._start("train", runner.max_iters, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        self._start("val", len(runner.val_dataloader))

    def before_test_epoch(self, runner: Runner) -> None:
        self._start("test", len(runner.test_dataloader))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._step()

    after_val_iter = after_test_iter = after_train_iter

    def after_train_epoch(self, runner: Runner) -> None:
        self._stop()

    after_val_epoch = after_test_epoch = lambda self, runner, metrics=None: self._stop()
