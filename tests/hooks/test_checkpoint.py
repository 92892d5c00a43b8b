"""What a kill at any moment leaves, judged by MMEngine's own hook and by a look at the folder at every change."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.hooks
import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

import det_distill.plugins  # noqa: F401
from det_distill.compat import checkpoints
from det_distill.compat.whole_files import WholeFiles
from det_distill.hooks.checkpoint import CheckpointHook

SCORES = (0.2, 0.1, 0.3, 0.3, 0.5)
OURS, STOCK = "CheckpointHook", "mmengine.CheckpointHook"


class Toy(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        return dict(loss=self.linear(inputs).square().sum()) if mode == "loss" else [self.linear(inputs)]


class Scores(BaseMetric):
    """The n-th evaluation's score is the n-th of SCORES."""

    runner: Any

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        loop = self.runner.train_loop
        return dict(acc=SCORES[(loop.epoch if loop.max_epochs > 1 else loop.iter // 2) - 1])


class Kill(BaseException):
    """No hook and no test but the one that asked for it stops it."""


class KillInEvaluation(Hook):
    def __init__(self, at: int) -> None:
        self.at = at

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == self.at:
            raise Kill


class Noted(Hook):
    """The steps after which the run was evaluated, and what saving called."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.evaluated, self.called = [], []

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.evaluated.append(runner.iter)

    def before_checkpoint_of_all_ranks(self, runner: Any) -> None:
        self.called.append("all")

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        self.called.append("one")


def toy(work_dir: Path, hook: str = OURS, by_epoch: bool = True, resume: bool = False, **options: Any) -> Runner:
    """Five epochs of two steps, or ten steps, evaluated every two."""
    loader = DataLoader([dict(inputs=torch.ones(1)) for _ in range(2)], batch_size=1)
    name = f"{work_dir.name}-{uuid.uuid4()}"  # the stream of torch begins anew in many a test
    loop = dict(by_epoch=True, max_epochs=5) if by_epoch else dict(by_epoch=False, max_iters=10, val_interval=2)
    metric = Scores()
    checkpoint = dict(type=hook, interval=1 if by_epoch else 2, by_epoch=by_epoch) | options
    runner = Runner(
        Toy(), str(work_dir), loader, loader, None, train_cfg=loop, val_cfg=dict(), val_evaluator=[metric],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)), default_hooks=dict(checkpoint=checkpoint),
        default_scope="mmdet", log_level="ERROR", experiment_name=name, resume=resume,
        log_processor=dict(by_epoch=by_epoch),
    )  # fmt: skip
    metric.runner = runner
    return runner


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.pth"))


def test_every_config_of_mmdetection_gets_ours_and_may_ask_for_the_other(tmp_path: Path) -> None:
    assert type(HOOKS.build(dict(type="CheckpointHook"))) is CheckpointHook
    hooks = [type(hook) for hook in toy(tmp_path)._hooks]
    assert CheckpointHook in hooks
    assert mmengine.hooks.CheckpointHook not in hooks
    assert mmengine.hooks.CheckpointHook in [type(hook) for hook in toy(tmp_path, STOCK)._hooks]


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize(
    "options",
    [dict(max_keep_ckpts=1, save_best="acc"), dict(max_keep_ckpts=2), dict(save_best="acc", save_last=False)],
    ids=str,
)
def test_a_run_leaves_the_files_that_mmengines_own_hook_leaves(tmp_path: Path, by_epoch: bool, options: dict) -> None:
    for name, hook in (("ours", OURS), ("stock", STOCK)):
        toy(tmp_path / name, hook, by_epoch, **options).train()
    assert names(tmp_path / "ours") == names(tmp_path / "stock")
    assert len(names(tmp_path / "ours")) >= 2
    for name in names(tmp_path / "ours"):
        ours, stock = (checkpoints.load(tmp_path / folder / name)["meta"] for folder in ("ours", "stock"))
        assert (ours["epoch"], ours["iter"]) == (stock["epoch"], stock["iter"])


def watch(monkeypatch: Any, folder: Path) -> list[list[str]]:
    """The checkpoints in a folder, each time one is about to be written or was removed."""
    seen: list[list[str]] = []

    def around(act: Callable, before: bool) -> Callable:
        def acted(self: Any, *args: Any) -> None:
            if before:
                seen.append(names(folder))
            act(self, *args)
            seen.append(names(folder))

        return acted

    monkeypatch.setattr(WholeFiles, "put", around(WholeFiles.put, before=True))
    monkeypatch.setattr(LocalBackend, "remove", around(LocalBackend.remove, before=False))
    return seen


@pytest.mark.parametrize("hook", [OURS, STOCK])
def test_there_is_always_one_to_resume_from_and_the_best_so_far(tmp_path: Path, monkeypatch: Any, hook: str) -> None:
    """MMEngine's own hook shows that the judge can fail."""
    seen = watch(monkeypatch, tmp_path)
    toy(tmp_path, hook, max_keep_ckpts=1, save_best="acc").train()
    lost = []
    for kind in ("epoch", "best"):
        there = [any(name.startswith(kind) for name in moment) for moment in seen]
        lost += [kind for now in there[there.index(True) :] if not now]
    assert set(lost) == (set() if hook == OURS else {"epoch", "best"})
    assert names(tmp_path) == ["best_acc_epoch_5.pth", "epoch_5.pth"]


def test_a_checkpoint_that_could_not_be_written_costs_none(tmp_path: Path, monkeypatch: Any) -> None:
    put = WholeFiles.put

    def full(self: Any, content: bytes, path: str) -> None:
        if "epoch_3" in str(path):
            raise OSError(28, "No space left on device")
        put(self, content, path)

    monkeypatch.setattr(WholeFiles, "put", full)
    with pytest.raises(OSError, match="No space"):
        toy(tmp_path, max_keep_ckpts=1, save_best="acc").train()
    assert names(tmp_path) == ["best_acc_epoch_1.pth", "epoch_2.pth"]


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize("at", [2, 6, 10])
def test_a_run_killed_in_an_evaluation_makes_up_for_it(tmp_path: Path, by_epoch: bool, at: int) -> None:
    options = dict(max_keep_ckpts=1, save_best="acc")
    toy(tmp_path / "whole", by_epoch=by_epoch, **options).train()
    runner = toy(tmp_path / "killed", by_epoch=by_epoch, **options)
    runner.register_hook(KillInEvaluation(at))
    with pytest.raises(Kill):
        runner.train()

    resumed, noted = toy(tmp_path / "killed", by_epoch=by_epoch, resume=True, **options), Noted()
    resumed.register_hook(noted)
    resumed.train()

    assert noted.evaluated == list(range(at, 11, 2))
    assert names(tmp_path / "killed") == names(tmp_path / "whole")
    for name in names(tmp_path / "whole"):
        one, other = (checkpoints.load(tmp_path / folder / name)["message_hub"] for folder in ("killed", "whole"))
        infos = [hub["runtime_info"] for hub in (one, other)]
        assert infos[0]["best_score"] == infos[1]["best_score"]
        assert Path(infos[0]["best_ckpt"]).name == Path(infos[1]["best_ckpt"]).name


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize("options", [dict(save_best="acc"), dict()], ids=str)
def test_an_evaluation_that_has_been_is_not_done_again(tmp_path: Path, by_epoch: bool, options: dict) -> None:
    """Whether it improved the best result, as the third, or not, as the second and fourth."""
    for after in (4, 6, 8):
        runner = toy(tmp_path / str(after), by_epoch=by_epoch, **options)
        runner.register_hook(_StopAfter(after + 1))
        with pytest.raises(Kill):
            runner.train()
        resumed, noted = toy(tmp_path / str(after), by_epoch=by_epoch, resume=True, **options), Noted()
        resumed.register_hook(noted)
        resumed.train()
        assert noted.evaluated == list(range(after + 2, 11, 2))


class _StopAfter(Hook):
    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.at:
            raise Kill


class LearnsByTheFirstStep(Hook):
    """Knows what to save once training goes on, as the hook of stages does."""

    found: str | None = None

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.found = "first stage"

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        if self.found is not None:
            checkpoint["stage"] = self.found


def test_saving_before_the_first_step_loses_no_hooks_entry(tmp_path: Path) -> None:
    for kill in (KillInEvaluation(6), _StopAfter(7)):  # the second run evaluates, saves again and dies
        runner = toy(tmp_path, resume=isinstance(kill, _StopAfter), save_best="acc")
        runner.register_hook(LearnsByTheFirstStep())
        runner.register_hook(kill)
        with pytest.raises(Kill):
            runner.train()
    saved = checkpoints.load(tmp_path / "epoch_3.pth")
    assert saved["message_hub"]["runtime_info"]["best_score"] == SCORES[2]  # it is the one written after
    assert saved["stage"] == "first stage"
    assert "optimizer" not in checkpoints.load(tmp_path / "best_acc_epoch_3.pth")


def test_what_mmengines_own_hook_saved_is_evaluated_again_for_nobody_knows(tmp_path: Path) -> None:
    runner = toy(tmp_path, STOCK)
    runner.register_hook(_StopAfter(5))
    with pytest.raises(Kill):
        runner.train()
    resumed, noted = toy(tmp_path, resume=True), Noted()
    resumed.register_hook(noted)
    resumed.train()
    assert noted.evaluated == [4, 6, 8, 10]


def test_what_a_killed_writer_left_goes_when_training_starts(tmp_path: Path) -> None:
    for name in ("epoch_9.pth.part", "notes.part"):
        (tmp_path / name).touch()
    toy(tmp_path).train()
    assert [file.name for file in tmp_path.glob("*.part")] == ["notes.part"]


def test_every_process_is_asked_before_the_one_that_writes(tmp_path: Path) -> None:
    runner, noted = toy(tmp_path), Noted()
    runner.register_hook(noted)
    runner.train()
    assert noted.called == ["all", "one"] * 10  # five epochs, each written before and after its evaluation


def test_evaluating_without_training_saves_nothing(tmp_path: Path) -> None:
    runner = toy(tmp_path)
    runner.train_loop._epoch = 1
    runner.val()
    assert names(tmp_path) == []
