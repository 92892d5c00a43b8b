"""Of a teacher of another family a student has the layers that work on its own levels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS

import tiny
from det_distill.inheritance.levels import twins
from det_distill.inheritance.reconstruction import Reconstruction, look_of, reconstruct

SELECTION = dict(type="WeightSelection")
FAMILIES = dict(two=tiny.faster_rcnn, one=lambda *widths: tiny.single_stage("retinanet", *widths))
STRIDES = dict(two=[4, 8, 16, 32, 64], one=[8, 16, 32, 64, 128])


def begun(folder: Path, student: str, teacher: str, widths: tuple[int, int] = (16, 32), **init: Any) -> Any:
    """A student half as wide as its teacher, of which the other half is dead, so that both see the same."""
    wide = tiny.write_teacher(folder, FAMILIES[teacher](*widths))
    if widths == (16, 32):
        state = tiny.dead_beyond_the_student(wide["checkpoint"], FAMILIES[teacher]())
        torch.save(state, wide["checkpoint"])
    built = MODELS.build(tiny.distiller(FAMILIES[student](), wide, terms={}, init_cfg=SELECTION | init))
    torch.manual_seed(3)
    built.init_weights()
    return built


@pytest.mark.parametrize(("student", "teacher"), [("one", "two"), ("two", "one")])
def test_levels_of_one_stride_show_the_same(tmp_path: Path, student: str, teacher: str):
    built = begun(tmp_path, student, teacher)
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, its = (net.eval().extract_feat(images) for net in (built.student, built.teacher.detector))
    own, its = dict(zip(STRIDES[student], own, strict=True)), dict(zip(STRIDES[teacher], its, strict=True))
    for stride in (8, 16, 32):
        torch.testing.assert_close(own[stride], its[stride][:, :16], rtol=1e-4, atol=1e-5)
        assert own[stride].std() > 1e-3


def test_levels_the_teacher_has_not_begin_as_in_stock_training(tmp_path: Path):
    built = begun(tmp_path, "one", "two")
    stock = MODELS.build(FAMILIES["one"]())
    torch.manual_seed(3)
    stock.init_weights()
    state, wanted = built.student.state_dict(), stock.state_dict()
    kept = {name for name, value in wanted.items() if torch.equal(value, state[name]) and "num_batches" not in name}
    further = ("neck.fpn_convs.3.conv.weight", "neck.fpn_convs.4.conv.weight")  # of strides 64 and 128
    assert {name for name in kept if name.startswith("neck") and name.endswith("weight")} == {*further}
    assert all(name in kept for name in wanted if name.startswith("bbox_head"))


def test_a_student_is_fitted_to_the_levels_it_has(tmp_path: Path):
    """Of its teacher's width: least squares tell the teacher's weights from noise."""
    built = begun(tmp_path, "one", "two", widths=(8, 16))
    torch.manual_seed(5)
    for path, one in built.student.neck.named_modules():
        if path.endswith("conv") and path not in ("fpn_convs.3.conv", "fpn_convs.4.conv"):
            torch.nn.init.normal_(one.weight, std=0.1)
    origins = built.inherit.origins(built.student, built.teachers)
    assert origins["neck.lateral_convs.0.conv"].path == "neck.lateral_convs.1.conv"
    batch = built.data_preprocessor(tiny.batch(2), training=True)
    look = look_of(built.teacher, batch["inputs"], batch["data_samples"], False)
    neck = {path: one for path, one in origins.items() if path.startswith("neck")}
    done = reconstruct(Reconstruction(rows=10**6, ridge=1e-9), built.view, built.teacher, neck, [look])
    assert len(done) == 6
    assert max(after for _, after in done.values()) < 5e-3
    with torch.no_grad():
        own, its = (net.eval().extract_feat(look.inputs) for net in (built.student, built.teacher.detector))
    for mine, other in zip(own[:3], its[1:4], strict=True):
        assert (mine - other).square().mean() < 1e-3 * other.var()


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ({"neck.a.0.conv": (8, 8)}, {"neck.a.0.conv": (8, 8)}),  # the same levels
        ({"neck.a.0": (9, 9), "neck.a.1": (5, 5)}, {"neck.a.0": (8, 8), "neck.a.1": (4, 4)}),  # other strides
        ({"neck.a.0": (8, 8)}, {"neck.a.0": (4, 4), "neck.a.1": (8, 8), "neck.a.2": (8, 8)}),  # no numbers of levels
        ({"backbone.a.0": (8, 8)}, {"backbone.a.0": (16, 16), "backbone.a.1": (8, 8)}),
        ({"neck.conv": (8, 8)}, {"neck.conv": (16, 16)}),
    ],
)
def test_elsewhere_names_tell(student: dict[str, Any], teacher: dict[str, Any]):
    assert twins(student, teacher) == {}
