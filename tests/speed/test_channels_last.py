"""Channels last in memory: another layout of the same numbers."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from terms.test_universal import WORKING, _id, built, of_term, on
from torch import Tensor

import tiny


def lies_last(value: Tensor) -> bool:
    """Whether it lies channels last and no other way."""
    return value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


@pytest.mark.parametrize("kind", ["fpn", "c4", "rfcn"])
def test_every_term_has_the_value_it_has_with_channels_first(kind: str, tmp_path: Path):
    names = [name for one, name in WORKING if one == kind and name != "triplets"]  # whose hardest negative may tie
    model = built(tmp_path, kind, {_id(name): on(kind, name) for name in names})
    for term in model.terms.values():
        term.weight = 1.0
    plain = tiny.losses(deepcopy(model), tiny.batch())
    model.to(memory_format=torch.channels_last)
    with model.view.record(["backbone"]) as seen:
        losses = tiny.losses(model, tiny.batch())
    assert all(map(lies_last, seen["backbone"]))
    for name in names:
        assert of_term(name, losses).item() == pytest.approx(of_term(name, plain).item(), rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("kind", tiny.SINGLE_STAGE)
def test_single_stage_students_have_the_losses_they_have_with_channels_first(kind: str, tmp_path: Path):
    files = tiny.write_teacher(tmp_path, tiny.single_stage(kind, 12))
    terms = dict(hint=tiny.imitation(mask=dict(type="FullMask"), adapter=dict(type="ConvAdapter")))
    torch.manual_seed(0)
    model = MODELS.build(tiny.distiller(tiny.single_stage(kind), files, terms=terms))
    plain = tiny.losses(deepcopy(model), tiny.batch())
    losses = tiny.losses(model.to(memory_format=torch.channels_last), tiny.batch())
    for name, value in plain.items():
        pairs = zip(value, losses[name], strict=True) if isinstance(value, list) else [(value, losses[name])]
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


class Losses(Hook):
    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append({key: value.item() for key, value in outputs.items()})


@pytest.mark.parametrize("kind", ["a Distiller", "a plain detector"])
def test_a_run_with_the_hook_has_the_losses_of_one_without(kind: str, tmp_path: Path):
    data = tiny.write_dataset(tmp_path / "set", images=4)
    model: Any = tiny.faster_rcnn()
    if kind == "a Distiller":
        model = tiny.distiller(model, tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24)))
    runs = []
    for hooks in ([], [dict(type="ChannelsLastHook")]):
        cfg = tiny.run_config(data, tmp_path / f"run{len(hooks)}", deepcopy(model), train_cfg=dict(max_epochs=1))
        cfg.custom_hooks += hooks
        runner, losses = Runner.from_cfg(cfg), Losses()
        runner.register_hook(losses)
        runner.train()
        runs.append((runner.model, losses.seen))
    (_, plain), (model, seen) = runs
    kernels = [value for value in model.parameters() if value.dim() == 4 and value.shape[2] > 1 and value.shape[1] > 1]
    assert all(map(lies_last, kernels))
    assert len(seen) == 2
    for one, other in zip(plain, seen, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    saved = torch.load(tmp_path / "run1/epoch_1.pth", weights_only=True)["state_dict"]
    MODELS.build(tiny.faster_rcnn()).load_state_dict(saved, strict=True)


def test_the_teacher_follows(tmp_path: Path):
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = built(tmp_path, "fpn", dict(one=on("fpn", "attention")))
    assert not lies_last(model.teacher.detector.backbone.conv1.weight)
    model.to(memory_format=torch.channels_last)
    assert lies_last(model.teacher.detector.backbone.conv1.weight)
