"""FitNets as shipped, in small: a hint trains the backbone alone, then soft labels and the task train the student."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

import tiny
from det_distill.losses.imitation import masked_imitation

SHIPPED = Config.fromfile(tiny.ROOT / "configs/fitnets/bccd_r18_r18-half.py")
SECOND = 4  # the step at which the second stage begins: 2 epochs of 2 batches before it, and 2 behind
Write = Callable[[], Config]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The terms and stages of the shipped config, 2 epochs each, on nets of no size."""
    found = copy.deepcopy(SHIPPED.model)
    found.student = tiny.faster_rcnn()
    found.teacher = tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))
    found.stages[0].until = 2
    found.terms.soft.schedule.update(begin=2, end=4)
    return found


@pytest.fixture
def write(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Write:
    folder = tmp_path_factory.mktemp("data")
    data = tiny.write_dataset(folder / "set", images=4)

    def written() -> Config:
        optimiser = dict(copy.deepcopy(SHIPPED.optim_wrapper), _delete_=True)
        other = dict(train_cfg=dict(max_epochs=4, val_begin=9), optim_wrapper=optimiser)
        cfg = tiny.run_config(data, tmp_path_factory.mktemp("run"), copy.deepcopy(model), **other)
        cfg.custom_hooks.append(dict(type="StagesHook"))
        return cfg

    return written


class Diary(Hook):
    """The losses of every step; interrupts the run in the step `stop`, before its end."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.losses = stop, {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses[runner.iter] = {key: value.item() for key, value in outputs.items()}
        if runner.iter == self.stop:
            raise KeyboardInterrupt


def run(cfg: Config, stop: int | None = None) -> tuple[dict[int, Any], dict[str, Tensor], Runner]:
    diary = Diary(stop)
    runner = tiny.trained(cfg, stop=diary) if stop else tiny.trained(cfg, diary)
    model = runner.model
    return diary.losses, {**dict(model.named_parameters()), **dict(model.named_buffers())}, runner


def test_interrupted_in_either_stage_it_goes_on_to_the_bit(write: Write):
    losses, weights, _ = run(write())
    assert len(losses) == 2 * SECOND
    for stop, saved in ((2, 2), (6, 6)):  # epoch by epoch, so that the step begun is lost
        cfg = write()
        run(copy.deepcopy(cfg), stop)
        cfg.resume = True
        rest, resumed, _ = run(cfg)
        assert rest == {step: found for step, found in losses.items() if step >= saved}
        assert resumed.keys() == weights.keys()
        assert all(value.equal(weights[name]) for name, value in resumed.items())

    # In the first stage the task is not even reckoned; in the second the weight of the soft labels falls from 4 to 1.
    assert all(
        found["loss"] == found["loss_hint"] > 0 == found["loss_soft"] for found in list(losses.values())[:SECOND]
    )
    assert all(found["loss_hint"] == 0 < found["loss_soft"] for found in list(losses.values())[SECOND:])
    assert {"loss_cls", "loss_bbox", "loss_rpn_cls", "loss_rpn_bbox"} <= losses[SECOND].keys() - losses[0].keys()


def stepped(model: Any, stage: int) -> tuple[Any, dict[str, Tensor], set[str]]:
    """A model in a stage, its losses, and the parts of it that a backward pass reaches."""
    torch.manual_seed(0)
    built = MODELS.build(copy.deepcopy(model))
    built.stages.enter(stage)
    losses = tiny.losses(built, tiny.batch())
    built.parse_losses(losses)[0].backward()
    reached = {".".join(name.split(".")[:2]) for name, one in built.named_parameters() if one.grad is not None}
    return built, losses, reached


def test_gradients_are_none_beyond_the_hint_and_then_none_in_its_regressor(model: Any):
    assert stepped(model, 0)[2] == {"student.backbone", "terms.hint"}
    heads = {"student.backbone", "student.neck", "student.rpn_head", "student.roi_head"}
    assert stepped(model, 1)[2] == heads


@pytest.mark.parametrize(("epoch", "factor"), [(2, 4.0), (3, 2.5), (4, 1.0)])
def test_lambda_falls_in_a_straight_line(model: Any, epoch: int, factor: float):
    soft = MODELS.build(copy.deepcopy(model)).terms["soft"]
    assert soft.weight * soft.schedule(0, epoch) == pytest.approx(0.1 * factor)


def test_the_hint_is_half_the_squared_gap_of_the_middle_layer_per_cell(model: Any):
    goal = torch.tensor([1.0, 2, 2]).view(1, 3, 1, 1)  # METHODS' oracle: (1 + 4 + 4) / 2
    assert masked_imitation(torch.zeros(1, 3, 1, 1), goal, torch.ones(1, 1, 1, dtype=torch.bool)) == 4.5

    torch.manual_seed(0)
    built, maps = MODELS.build(copy.deepcopy(model)), {}
    built.stages.enter(0)
    [adapter] = built.terms["hint"].adapters
    adapter.register_forward_hook(lambda _m, _a, out: maps.update(own=out))
    built.teacher.detector.backbone.register_forward_hook(lambda _m, _a, out: maps.update(its=out[2]))
    hint = tiny.losses(built, tiny.batch())["loss_hint"].item()
    assert maps["own"].shape == maps["its"].shape == (2, 64, 6, 8)  # stride 16 of 96 x 128
    gap = sum((s - t) ** 2 for s, t in zip(maps["own"].flatten().tolist(), maps["its"].flatten().tolist(), strict=True))
    assert hint == pytest.approx(gap / 2 / (2 * 6 * 8), rel=1e-5)
