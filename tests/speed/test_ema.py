"""MMEngine's EMAHook on a distillation run: the student is averaged, the teacher is left alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor

import tiny

MOMENTUM = 0.25
TERMS = dict(
    imitation=tiny.imitation(),
    critic=dict(type="Holistic", tap="neck", adapter=dict(type="ConvAdapter", kernel=1), size=8, width=4, weight=1),
)
EMA = dict(type="EMAHook", momentum=MOMENTUM, strict_load=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "set", images=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    teacher = tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))
    return tiny.distiller(tiny.faster_rcnn(), teacher, terms=TERMS)


class Diary(Hook):
    """The plain student's weights at the start and after every step, each step's losses, and what was validated."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Tensor]] = {}
        self.losses: dict[int, dict[str, float]] = {}
        self.validated: list[dict[str, Tensor]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps[runner.iter] = weights_of(runner.model)
        self.losses[runner.iter] = {key: value.item() for key, value in outputs.items()}

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.validated.append(weights_of(runner.model))


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def config(data: Path, folder: Path, model: Any, ema: dict[str, Any] = EMA, **other: Any) -> Config:
    """Two epochs of two steps, validated and saved after each."""
    cfg = tiny.run_config(data, folder, copy.deepcopy(model), train_cfg=dict(max_epochs=2), **other)
    cfg.custom_hooks.append(dict(ema))
    return cfg


def run(cfg: Config, stop: int | None = None) -> tuple[Diary, Runner]:
    diary = Diary()
    runner = tiny.trained(cfg, diary, stop=None if stop is None else tiny.Interrupt(stop))
    return diary, runner


def hook_of(runner: Runner) -> EMAHook:
    return next(hook for hook in runner.hooks if isinstance(hook, EMAHook))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, model) -> tuple[Diary, Runner, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return *run(config(data, folder, model)), folder


def averaged_by_hand(steps: dict[int, dict[str, Tensor]], last: int, learnt: set[str]) -> dict[str, Tensor]:
    """The average after a step: the weights of the first, then a quarter of each new one's; buffers are the last's."""
    average = {name: value.clone() for name, value in steps[0].items()}
    for step in range(1, last + 1):
        for name, value in steps[step].items():
            average[name] = average[name] * (1 - MOMENTUM) + value * MOMENTUM if name in learnt else value.clone()
    return average


def near(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Equal but for the order of a sum of two."""
    return list(one) == list(other) and all(torch.allclose(one[k], other[k], rtol=1e-5, atol=1e-7) for k in one)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    """Without what a term counts beside its weights."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def test_the_checkpoint_and_the_validation_are_of_the_average_a_plain_loop_makes(whole):
    diary, _, folder = whole
    plain = MODELS.build(tiny.faster_rcnn())
    learnt = {name for name, _ in plain.named_parameters()}
    expected = averaged_by_hand(diary.steps, 3, learnt)
    saved = torch.load(folder / "epoch_2.pth", weights_only=True)
    assert plain.load_state_dict(saved["state_dict"], strict=True).unexpected_keys == []
    assert near(saved["state_dict"], expected)
    assert not near(saved["state_dict"], diary.steps[3])  # the judge can tell them apart
    assert near(diary.validated[-1], expected)
    assert near(diary.validated[0], averaged_by_hand(diary.steps, 1, learnt))


def test_beside_the_average_lie_the_raw_weights_of_the_plain_student(whole):
    diary, _, folder = whole
    raw = torch.load(folder / "epoch_2.pth", weights_only=True)["ema_state_dict"]
    assert raw.pop("steps") == 4
    raw = {name.removeprefix("module."): value for name, value in raw.items()}
    MODELS.build(tiny.faster_rcnn()).load_state_dict(raw, strict=True)
    assert equal(raw, diary.steps[3])


def test_the_teacher_is_shared_and_no_part_of_the_average(whole):
    _, runner, _ = whole
    average = hook_of(runner).ema_model
    assert average.module.teacher is runner.model.teacher
    its = {value.data_ptr() for value in runner.model.teacher.detector.state_dict().values()}
    named = (*average.parameters(), *average.buffers(), *average.avg_parameters.values())
    assert not its & {value.data_ptr() for value in named}
    own = {name for name, _ in runner.model.named_parameters()}  # the student's and the adapters'
    assert set(average.avg_parameters) == own
    assert all(name.startswith(("student.", "terms.")) for name in own)


def test_adapters_train_and_are_saved_as_they_are(whole):
    """They help the student alone, which never runs with the average's copies of them."""
    _, runner, folder = whole
    saved = torch.load(folder / "epoch_2.pth", weights_only=True)["distill"]["terms"]
    average = hook_of(runner).ema_model.module.terms.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in runner.model.terms.named_parameters())
    assert any(not torch.equal(saved[name], average[name]) for name in average if name.startswith("imitation."))


@pytest.mark.parametrize("ema", [EMA, EMA | dict(update_buffers=True), EMA | dict(begin_epoch=2)], ids=str)
def test_a_resumed_run_ends_as_the_uninterrupted_one_to_the_bit(tmp_path, data, model, ema):
    whole, _ = run(config(data, tmp_path / "whole", model, ema))
    run(config(data, tmp_path / "parts", model, ema), stop=3)  # a step behind the first checkpoint
    rest, _ = run(config(data, tmp_path / "parts", model, ema, resume=True))
    assert sorted(rest.losses) == [2, 3]
    assert rest.losses == {step: whole.losses[step] for step in rest.losses}
    one, other = (torch.load(tmp_path / name / "epoch_2.pth", weights_only=True) for name in ("whole", "parts"))
    for part in ("state_dict", "ema_state_dict"):
        assert equal(one[part], other[part])
    assert equal(*(tensors(saved["distill"]["terms"]) for saved in (one, other)))
    assert all(equal(*pair) for pair in zip(whole.validated[-2:], rest.validated, strict=True))


def test_the_steps_are_those_without_an_average(whole, tmp_path, data, model):
    cfg = config(data, tmp_path, model)
    del cfg.custom_hooks[-1]
    alone, _ = run(cfg)
    assert alone.losses == whole[0].losses
    assert equal(alone.steps[3], whole[0].steps[3])


def test_a_copy_that_was_moved_gives_the_teacher_back_with_the_next_batch(model):
    """`EMAHook(device="cpu")` moves a copy of a model on a GPU, and with it the teacher; "meta" stands for that GPU."""
    distiller = MODELS.build(copy.deepcopy(model))
    moved = torch.zeros(1, 3, 64, 64, device="meta")
    shown = distiller.teacher.watch(moved, tiny.batch(1, size=(64, 64))["data_samples"], ["neck"], None)
    assert {one.device.type for one in shown["neck"]} == {"meta"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_average_kept_on_the_cpu_leaves_the_teacher_to_a_gpu(tmp_path, data, model):
    diary, runner = run(config(data, tmp_path, model, EMA | dict(device="cpu")))
    assert next(runner.model.teacher.detector.parameters()).is_cuda
    assert all(torch.isfinite(torch.tensor(list(told.values()))).all() for told in diary.losses.values())
