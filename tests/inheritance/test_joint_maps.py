"""Maps side by side: a student has the first channels of each, against a teacher made of the student by hand."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import tiny
from det_distill.inheritance.channels import channels_of
from det_distill.inheritance.sorting import sort_channels
from det_distill.views.families import view_of

PARTS = {  # as MMDetection's source has it: how many maps lie side by side in what a layer reads
    r"final_conv|attention\.fc": 2,  # the two branches of a CSPLayer
    r"(top_down|bottom_up)_blocks\.\d\.(main|short)_conv": 2,  # two levels
    r"backbone\.stage4\.1\.conv2": 4,  # SPPBottleneck: the map and its three pools
}


def parts(name: str, axis: int) -> int:
    """Of a weight's axis; a gate's outputs weigh the maps it reads."""
    if axis == 1 or "attention" in name:
        return next((count for pattern, count in PARTS.items() if re.search(pattern, name)), 1)
    return 1


def spots(name: str, axis: int, size: int, whole: int, backwards: bool) -> Tensor:
    """Where the student's channels are in the teacher: in front of each part, or counted from its end."""
    count = parts(name, axis)
    if size == whole and (axis == 1 or "rtm_" in name):
        return torch.arange(size)  # of an image, or what is predicted
    inside = torch.arange(size // count)
    inside = whole // count - 1 - inside if backwards else inside
    return torch.cat([inside + part * (whole // count) for part in range(count)])


def widened(weights: dict[str, Tensor], shapes: dict[str, Tensor], backwards: bool) -> dict[str, Tensor]:
    """A net that computes the same, with dead channels beside."""
    found = {}
    for name, value in weights.items():
        wide = torch.zeros_like(shapes[name]) + ("running_var" in name)
        if value.dim():
            where = [
                spots(name, axis, value.shape[axis], wide.shape[axis], backwards) for axis in (0, 1)[: value.dim()]
            ]
            wide[torch.meshgrid(*where, indexing="ij")] = value
        found[name] = wide
    return found


def built(width: int) -> Any:
    torch.manual_seed(0)
    net = MODELS.build(tiny.rtmdet(width)).eval()
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if value.dim() > 1:
            nn.init.kaiming_normal_(value)
        elif value.dim():
            nn.init.uniform_(value, *((0.5, 1.5) if "var" in name or "weight" in name else (-0.3, 0.4)))
    return net


def outputs(net: Any) -> list[Tensor]:
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [one for part in net.eval().bbox_head(net.extract_feat(images)) for one in part]


def begun(folder: Path, backwards: bool, channels: str) -> tuple[Any, Any]:
    """A student of a teacher that is `built(8)`, and that net itself."""
    truth = built(8)
    teacher = tiny.write_teacher(folder, tiny.rtmdet(16))
    saved = torch.load(teacher["checkpoint"])
    saved["state_dict"] = widened(truth.state_dict(), saved["state_dict"], backwards)
    torch.save(saved, teacher["checkpoint"])
    init = dict(type="WeightSelection", channels=channels)
    model = MODELS.build(tiny.distiller(tiny.rtmdet(8), teacher, terms={}, init_cfg=init))
    model.init_weights()
    return model, truth


def close(ours: list[Tensor], its: list[Tensor]) -> bool:
    assert len(ours) == len(its) == 6
    assert all(one.std() > 1e-3 for one in its)
    return all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())) for a, b in zip(ours, its, strict=True)
    )


@pytest.mark.parametrize(
    ("backwards", "channels", "same"), [(False, "first", True), (True, "heaviest", True), (True, "first", False)]
)
def test_a_student_finds_the_living_channels_of_each_map(tmp_path: Path, backwards: bool, channels: str, same: bool):
    model, truth = begun(tmp_path, backwards, channels)
    assert close(outputs(model.teacher.detector), outputs(truth))
    assert close(outputs(model.student), outputs(truth)) is same


def test_a_gate_of_two_maps_gives_the_first_of_each(tmp_path: Path):
    model, _ = begun(tmp_path, False, "first")
    found = model.inherit.origins(model.student, model.teachers)
    assert found["backbone.stage1.1.attention.fc"].outputs.tolist() == [*range(8), *range(16, 24)]
    assert found["backbone.stage1.1.final_conv.conv"].outputs.tolist() == [*range(16)]


def test_a_shallower_rtmdet_begins_whole_and_learns():
    """The shipped pair, S of M; its hooks are those of the stock config and of every distillation run."""
    name = "recipe/coco_rtmdet-m_rtmdet-s"
    model = tiny.shipped_distiller(name)
    assert "heaviest channels of 166 of 166 layers" in model.inherit.told(model.student, model.teachers)
    tiny.losses(model, tiny.batch())["loss_imitation"].backward()
    assert model.student.backbone.stem[0].conv.weight.grad.any()
    hooks = [hook.type for hook in tiny.shipped(name).custom_hooks]
    optional = {"GradientReportHook", "StagesHook"}
    stock = {hook.type for hook in tiny.shipped("_base_/distill").custom_hooks}
    assert {*hooks} == stock - optional | {"EMAHook", "PipelineSwitchHook"}


def test_a_part_of_a_map_pins_its_channels():
    """What is cut out of a map, by numbers of its channels, knows them: nothing there changes places."""
    net = built(8)
    block = net.backbone.stage1[1]
    before = channels_of(view_of(net, "teacher"))
    assert before.free[before.written["backbone.stage1.1.short_conv.conv"]].all()
    block.short_conv.register_forward_hook(lambda _m, _a, out: torch.cat((out[:, 2:], out[:, :2]), dim=-3))
    cut = channels_of(view_of(net, "teacher"))
    assert not cut.free[cut.written["backbone.stage1.1.short_conv.conv"]].any()
    assert cut.free[cut.written["backbone.stage1.0.conv"]].all()
    assert "backbone.stage1.1.final_conv.conv" not in cut.read
    kept, scales = outputs(net), block.short_conv.bn.weight.clone()
    sort_channels(view_of(net, "teacher"))
    assert close(outputs(net), kept)
    assert block.short_conv.bn.weight.equal(scales)
