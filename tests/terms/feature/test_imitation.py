"""Feature imitation as a term: levels paired by stride, adapters inferred, masks in their place."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.registry import MODELS
from torch import Tensor, nn

import tiny
from det_distill.masks import few
from det_distill.scene import Scene
from det_distill.terms.base import Batch
from det_distill.terms.feature.imitation import FeatureImitation
from det_distill.views.anatomy import Anatomy, MapSpec

SIZE = (128, 192)
PRIORS = AnchorGenerator(strides=[8, 16, 32], ratios=[0.5, 1.0, 2.0], scales=[8])
FULL, NEAR = dict(type="FullMask"), dict(type="AnchorIoUMask", psi=0.5)


def specs(channels: int, *strides: int) -> dict[str, tuple[MapSpec, ...]]:
    return {"neck": tuple(MapSpec(channels, stride) for stride in strides)}


def maps(channels: int, *strides: int, seed: int = 0) -> dict[str, tuple[Tensor, ...]]:
    g = torch.Generator().manual_seed(seed)
    sizes = [(2, channels, SIZE[0] // s, SIZE[1] // s) for s in strides]
    return {"neck": tuple(torch.randn(size, generator=g).requires_grad_() for size in sizes)}


def batch(*boxes: list[float], shapes: tuple[tuple[int, int], ...] = (SIZE, SIZE)) -> Batch:
    """Two images, the boxes all in the first."""
    truth = torch.tensor(boxes).reshape(-1, 4)
    nothing = torch.zeros(0, 4)
    return Batch(Scene([truth, nothing], [nothing, nothing], list(shapes)), [], PRIORS)


def wired(student: Any, teacher: Any, **config: Any) -> FeatureImitation:
    torch.manual_seed(0)
    term = FeatureImitation(**(dict(tap="neck", mask=FULL, weight=1) | config))
    rpn = SimpleNamespace(prior_generator=PRIORS)
    term.wire(Anatomy("student", student, rpn), Anatomy("teacher", teacher, rpn))
    return term


def by_hand(students: list[Tensor], teachers: list[Tensor], strides: list[int], shapes: Any) -> float:
    """Mean over levels of half the squared gap per cell inside the images, one cell at a time."""
    values = []
    for s, t, stride in zip(students, teachers, strides, strict=True):
        total, cells = 0.0, 0
        for image, y, x in product(range(s.shape[0]), range(s.shape[2]), range(s.shape[3])):
            if y * stride < shapes[image][0] and x * stride < shapes[image][1]:
                cells += 1
                total += (s[image, :, y, x] - t[image, :, y, x]).square().sum().item()
        values.append(total / (2 * cells))
    return sum(values) / len(values)


def test_without_adapter_it_is_the_loss_averaged_over_levels():
    student, teacher, shapes = maps(4, 16, 32), maps(4, 16, 32, seed=1), ((128, 192), (70, 100))
    term = wired(specs(4, 16, 32), specs(4, 16, 32), adapter=None)
    value = term(student, teacher, batch(shapes=shapes))
    assert value.item() == pytest.approx(by_hand(student["neck"], teacher["neck"], [16, 32], shapes), rel=1e-5)
    assert not list(term.parameters())


@pytest.mark.parametrize("order", [(8, 16, 32), (32, 8, 16)], ids=str)
@pytest.mark.parametrize("strides", [[16, 32], [32], [32, 16]], ids=str)
def test_levels_are_paired_by_stride_not_by_place(strides: list[int], order: tuple[int, ...]):
    student, teacher = maps(4, 16, 32), maps(4, *order, seed=1)
    term = wired(specs(4, 16, 32), specs(4, *order), adapter=None, strides=strides)
    own = [student["neck"][(16, 32).index(s)] for s in strides]
    its = [teacher["neck"][order.index(s)] for s in strides]
    expected = by_hand(own, its, strides, (SIZE, SIZE))
    assert term(student, teacher, batch()).item() == pytest.approx(expected, rel=1e-5)


def test_an_adapter_is_built_for_each_level_and_compared_behind_it():
    term = wired(specs(4, 16, 32), specs(6, 16, 32))
    assert [tuple(adapter.conv.weight.shape) for adapter in term.adapters] == [(6, 4, 3, 3)] * 2
    student, teacher = maps(4, 16, 32), maps(6, 16, 32, seed=1)
    adapted = [adapt(m).detach() for adapt, m in zip(term.adapters, student["neck"], strict=True)]
    expected = by_hand(adapted, teacher["neck"], [16, 32], (SIZE, SIZE))
    assert term(student, teacher, batch()).item() == pytest.approx(expected, rel=1e-5)


def test_channels_written_in_the_config_win_over_inferred_ones():
    term = wired(specs(4, 16), specs(6, 16), adapter=dict(type="ConvAdapter", kernel=1, relu=True))
    assert tuple(term.adapters[0].conv.weight.shape) == (6, 4, 1, 1)
    assert term.adapters[0].relu


def test_gradients_reach_the_adapters_of_marked_levels_only_and_never_the_teacher():
    # Sides 40 and 130: levels floor(log2(side / 56)) = 0 (clamped) and 1; no box belongs to the third level.
    student, teacher = maps(4, 8, 16, 32), maps(6, 8, 16, 32, seed=1)
    term = wired(specs(4, 8, 16, 32), specs(6, 8, 16, 32), mask=NEAR)
    term(student, teacher, batch([10, 10, 50, 50], [20, 0, 152, 128])).backward()
    assert [bool(adapter.conv.weight.grad.any()) for adapter in term.adapters] == [True, True, False]
    assert [bool(one.grad.any()) for one in student["neck"]] == [True, True, False]
    assert all(one.grad is None for one in teacher["neck"])
    assert all(value.grad.isfinite().all() for value in term.parameters())


NOTHING = {"no boxes": [], "zero area": [[30, 30, 30, 60], [40, 40, 40, 40]], "inverted": [[60, 60, 30, 30]]}


@pytest.mark.parametrize("mask", [NEAR, dict(type="GtBoxMask")], ids=["anchors", "boxes"])
@pytest.mark.parametrize("boxes", NOTHING.values(), ids=NOTHING)
def test_nothing_to_imitate_is_a_zero_that_trains(boxes: list[list[float]], mask: dict[str, Any]):
    student, teacher = maps(4, 8, 16), maps(6, 8, 16, seed=1)
    term = wired(specs(4, 8, 16), specs(6, 8, 16), mask=mask)
    value = term(student, teacher, batch(*boxes))
    value.backward()
    assert value.item() == 0
    for one in (*term.parameters(), *student["neck"]):
        assert one.grad.equal(torch.zeros_like(one))


def test_zero_area_boxes_beside_real_ones_change_nothing():
    student, teacher, real = maps(4, 8, 16), maps(4, 8, 16, seed=1), [10, 10, 50, 50]
    term = wired(specs(4, 8, 16), specs(4, 8, 16), mask=NEAR, adapter=None)
    value, alone = (term(student, teacher, batch(*boxes)) for boxes in ([real, [90, 90, 90, 99]], [real]))
    assert value.equal(alone)
    assert alone > 0


@pytest.mark.parametrize(
    ("student", "teacher", "config", "said"),
    [
        (specs(4, 8, 16), specs(4, 8, 16, 32), {}, r"\[8, 16\] on the student and \[8, 16, 32\] on the teacher.*"
         r"set strides=\[8, 16\]"),
        (specs(4, 4, 8), specs(4, 8, 16), {}, r"set strides=\[8\] to compare what they share"),
        (specs(4, 8), specs(4, 8), dict(strides=[8, 16]), r"wanted \[8, 16\]; set strides=\[8\]"),
        (specs(4, 4), specs(4, 8), {}, r"\[4\] on the student and \[8\] on the teacher.*they share no stride"),
        (specs(4, 8), specs(4, 8), dict(strides=[]), "strides=.* names no level"),
        (specs(4, 8), specs(6, 8), dict(adapter=None), r"stride 8 has 4 channels on the student and 6 on the teacher; "
         "without an adapter they must be equal"),
        (specs(4, 4, 8), specs(4, 4, 8), dict(mask=NEAR), r"AnchorIoUMask needs anchors at strides \[4, 8\], the "
         r"student's have \[8, 16, 32\]; set strides=, or use GtBoxMask"),
        (specs(4, 8, 8), specs(4, 8), {}, r"two maps of one stride on the student: \[8, 8\]"),
        (dict(neck=(32,)), specs(4, 8), {}, r"'neck' shows \(32,\) on the student, not feature maps"),
    ],
)  # fmt: skip
def test_what_cannot_be_wired_says_what_was_found_and_the_way_out(student, teacher, config, said):
    with pytest.raises(ValueError, match=said):
        wired(student, teacher, **config)


@pytest.mark.parametrize("weight", [-1, float("nan")])
def test_a_weight_below_zero_is_refused(weight: float):
    with pytest.raises(ValueError, match=f"weight={weight}"):
        FeatureImitation(tap="neck", mask=FULL, weight=weight)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(width=16, fpn=32))


def distiller(files: dict[str, str], **term: Any) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(tiny.faster_rcnn(), files, terms=dict(imitation=tiny.imitation(**term))))


def test_a_dotted_path_is_a_tap_too(files: dict[str, str]):
    model = distiller(files, tap="backbone.layer3", weight=1.0, mask=FULL)
    assert tuple(model.terms.imitation.adapters[0].conv.weight.shape) == (64, 32, 3, 3)
    data = tiny.batch(size=(96, 128))
    value = tiny.losses(model.eval(), data)["loss_imitation"]
    assert value.requires_grad
    assert value > 0


@pytest.mark.parametrize("boxes", [0, 3])
def test_a_training_step_has_finite_gradients_with_and_without_objects(files: dict[str, str], boxes: int):
    model = distiller(files)
    found = tiny.losses(model, tiny.batch(boxes=boxes))
    assert (found["loss_imitation"] > 0) == bool(boxes)
    model.parse_losses(found)[0].backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)
    assert [bool(a.conv.weight.grad.any()) for a in model.terms.imitation.adapters] == [bool(boxes), *[False] * 4]


def test_a_level_only_the_teacher_has_needs_strides(tmp_path: Path):
    teacher = tiny.faster_rcnn(width=16, fpn=32)
    teacher.neck.num_outs = 6
    files = tiny.write_teacher(tmp_path, teacher)
    with pytest.raises(ValueError, match=r"terms.imitation: 'neck' has strides .*set strides=\[4, 8, 16, 32, 64\]"):
        distiller(files)
    model = distiller(files, strides=[4, 8, 16, 32, 64])
    assert tiny.losses(model, tiny.batch())["loss_imitation"] > 0


def test_a_map_without_anchors_is_refused_by_the_term_s_name(files: dict[str, str]):
    with pytest.raises(ValueError, match=r"terms.imitation: AnchorIoUMask needs anchors at strides \[2\]"):
        distiller(files, tap="backbone.conv1")


# ---------------------------------------------------------------- few cells


@pytest.mark.parametrize("distance", ["cell", "l2", "l1"])
@pytest.mark.parametrize("boxes", [[[20.0, 20, 60, 60]], [[5.0, 5, 190, 120], [0, 0, 40, 30]], []], ids=str)
@pytest.mark.parametrize("quantiser", [None, dict(type="Quantiser", step=0.5, signed=True)], ids=["", "quantised"])
def test_few_cells_give_the_value_and_gradients_of_whole_maps(boxes, distance, quantiser, monkeypatch):
    student, teacher = specs(4, 8, 16), specs(6, 8, 16)
    found = []
    for most in (1.0, -1.0):  # of the cells: all are few, none are
        monkeypatch.setattr(few, "FEW", most)
        term = wired(student, teacher, mask=NEAR, distance=distance, quantiser=quantiser).double()
        own, its = ({"neck": tuple(one.detach().double() for one in maps(c, 8, 16, seed=c)["neck"])} for c in (4, 6))
        leaves = [one.requires_grad_() for one in own["neck"]]
        value = term(own, its, batch(*boxes))
        found.append((value, torch.autograd.grad(value, [*leaves, *term.adapters.parameters()])))
    torch.testing.assert_close(*found)
    assert bool(boxes) == bool(found[0][0] > 0)


def test_maps_are_adapted_whole_where_many_cells_are_on_and_nowhere_else(monkeypatch):
    term = wired(specs(4, 8, 16), specs(6, 8, 16), mask=NEAR)
    adapted = []
    for adapter in term.adapters:
        adapter.register_forward_hook(lambda _, args, __: adapted.append(tuple(args[0].shape[2:])))
    own, its = maps(4, 8, 16), maps(6, 8, 16)
    term(own, its, batch([20.0, 20, 60, 60]))
    assert adapted == []
    monkeypatch.setattr(few, "FEW", 0.01)
    term(own, its, batch([20.0, 20, 60, 60]))
    assert adapted == [(16, 24)]  # at stride 16 no cell is on: a box of this size is the finest level's


def test_adapters_that_look_at_all_cells_and_full_masks_keep_whole_maps():
    assert wired(specs(4, 8), specs(6, 8), mask=NEAR).local
    assert not wired(specs(4, 8), specs(6, 8), mask=NEAR, adapter=dict(type="ConvAdapter", norm=True)).local
    assert not wired(specs(4, 8), specs(4, 8), mask=NEAR, adapter=None).local
    assert not wired(specs(4, 8), specs(6, 8)).local


def test_cells_are_listed_by_image_row_and_column():
    masks = [torch.zeros(2, 3, 4).bool(), torch.ones(2, 2, 2).bool(), torch.zeros(2, 1, 5).bool()]
    masks[0][0, 2, 1] = masks[0][1, 0, 3] = masks[2][1, 0, 4] = True
    first, many, last = few.few_cells(masks)
    assert many is None
    for cells, on in ((first, masks[0]), (last, masks[2])):
        assert [one.tolist() for one in cells] == [one.tolist() for one in on.nonzero(as_tuple=True)]


@pytest.mark.parametrize(("count", "are_few"), [(2, True), (3, False)])
def test_a_quarter_of_the_cells_is_few_and_one_more_is_not(count: int, are_few: bool):
    on = torch.arange(8).view(1, 2, 4) < count
    assert (few.few_cells([on])[0] is not None) == are_few


def test_in_compiled_code_no_cells_are_few():
    masks = [torch.zeros(1, 2, 2).bool(), torch.zeros(1, 4, 4).bool()]
    assert torch.compile(few.few_cells, backend="eager")(masks) == [None, None]


def test_few_cells_of_maps_of_unequal_sizes_are_refused_and_named():
    term = wired(specs(4, 8), specs(6, 8), mask=NEAR)
    own, its = maps(4, 8), {"neck": tuple(one[..., :-1] for one in maps(6, 8)["neck"])}
    with pytest.raises(ValueError, match=r"want equal \(B, C, H, W\) maps .*\(2, 6, 16, 24\), \(2, 6, 16, 23\)"):
        term(own, its, batch([20.0, 20, 60, 60]))
