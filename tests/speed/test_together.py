"""Half precision, an average, accumulation, compilation and channels last, all in one run."""

from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner

import tiny

TERMS = dict(imitation=tiny.imitation(), rpn=dict(type="WeightedSoftLabels", head="rpn", weight=0.5))


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """What AmpOptimWrapper does in bf16, which it refuses to do without a GPU."""

    @contextmanager
    def optim_context(self, model: Any):
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield


class Losses(Hook):
    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append({key: value.item() for key, value in outputs.items()})


def run(folder: Path, data: Path, model: dict[str, Any], fast: bool) -> tuple[list[dict[str, float]], Runner]:
    """One epoch of four steps, that is two of accumulated gradients."""
    cfg = tiny.run_config(data, folder, deepcopy(model), train_cfg=dict(max_epochs=1, val_begin=9))
    cfg.optim_wrapper.accumulative_counts = 2
    if fast:
        cfg.model.teacher.update(precision="bf16", compile=dict(backend="eager"), channels_last=True)
        cfg.optim_wrapper.type = "CpuAmpOptimWrapper"
        cfg.compile = dict(backend="eager")
        cfg.custom_hooks += [dict(type="EMAHook", momentum=0.25), dict(type="ChannelsLastHook")]
    runner, losses = Runner.from_cfg(cfg), Losses()
    runner.register_hook(losses)
    runner.train()
    return losses.seen, runner


@pytest.mark.heavy
def test_a_run_with_all_of_them_is_near_one_with_none(tmp_path: Path):
    torch._dynamo.reset()
    data = tiny.write_dataset(tmp_path / "set")
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24))
    model = tiny.distiller(tiny.faster_rcnn(), teacher, terms=deepcopy(TERMS))
    plain, _ = run(tmp_path / "plain", data, model, fast=False)
    fast, runner = run(tmp_path / "fast", data, model, fast=True)
    assert len(fast) == len(plain) == 4
    for one, other in zip(fast, plain, strict=True):
        assert one.keys() == other.keys()
        for name in ("loss_rpn_cls", "loss_imitation", "loss_rpn"):  # bf16 may sample other boxes for the RoI head
            assert one[name] == pytest.approx(other[name], rel=0.03), name
        assert all(value == value and abs(value) < 1e3 for value in one.values())
    saved = torch.load(tmp_path / "fast/epoch_1.pth", weights_only=True)
    MODELS.build(tiny.faster_rcnn()).load_state_dict(saved["state_dict"], strict=True)
    assert {value.dtype for value in runner.model.parameters()} == {torch.float32}
    assert saved["ema_state_dict"]["steps"] == 4
