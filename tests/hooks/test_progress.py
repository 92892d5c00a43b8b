"""The bar moves with the run, and is not there where nobody watches."""

import sys
from types import SimpleNamespace

import pytest

from det_distill.hooks.progress import ProgressBarHook

RUNNER = SimpleNamespace(max_iters=10, iter=4, val_dataloader=range(3), test_dataloader=range(2))


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    hook = ProgressBarHook()
    yield hook
    hook._stop()


@pytest.mark.parametrize(("phase", "done", "total"), [("train", 4, 10), ("val", 0, 3), ("test", 0, 2)])
def test_each_phase_has_a_bar_of_its_length(hook, phase, done, total):
    getattr(hook, f"before_{phase}_epoch")(RUNNER)
    [task] = hook._bar.tasks
    assert (task.completed, task.total) == (done, total)
    getattr(hook, f"after_{phase}_iter")(RUNNER, 0)
    assert task.completed == done + 1
    getattr(hook, f"after_{phase}_epoch")(RUNNER)
    assert hook._bar is None


def test_without_a_terminal_there_is_none(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    hook = ProgressBarHook()
    hook.before_train_epoch(RUNNER)
    hook.after_train_iter(RUNNER, 0)
    assert hook._bar is None
