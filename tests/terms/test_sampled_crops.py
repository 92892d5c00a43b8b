"""The student's crops of sampled boxes are those its RoI head has made, unless it makes others."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.ops import roi_align
from mmdet.registry import MODELS
from shown import NOTHING
from torch import Tensor

import tiny
from det_distill.terms.boxes import spread
from det_distill.views.base import ROI_CROPS, ROIS

STRIDES = [4, 8, 16, 32]
NUM = 5


@pytest.fixture
def teacher(tmp_path: Path) -> dict[str, str]:
    return tiny.write_teacher(tmp_path, tiny.faster_rcnn(12, 24))


def taught(teacher: dict[str, str], student: Any, **config: Any) -> Any:
    term = dict(type="ProposalMimic", tap="neck", weight=1, boxes="sampled", num=NUM, strides=STRIDES) | config
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(student, teacher, terms=dict(one=term)))


def cut_by_hand(maps: tuple[Tensor, ...], rois: Tensor, size: int = 7) -> Tensor:
    """Box by box, by the pyramid's rule: 56 px at stride 4."""
    crops = []
    for roi in rois:
        side = ((roi[3] - roi[1]) * (roi[4] - roi[2])).sqrt().item()
        level = sum(side >= 112 * 2**k for k in range(3))
        crops.append(roi_align(maps[level], roi[None], (size, size), 1 / STRIDES[level], 0, "avg", True))
    return torch.cat(crops)


def gradients(value: Tensor, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, maps, retain_graph=True, materialize_grads=True)


def watched(model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """The losses of a step, and what the term compared in it: maps, all sampled boxes, those kept, both sides."""
    term, seen = model.terms["one"], {}
    compared = term.compared

    def look(student: Any, teacher: Any) -> tuple[Tensor, Tensor]:
        own, its = compared(student, teacher)
        maps = (student[term.tap], teacher[term.tap])
        seen.update(maps=maps, rois=student[ROIS], kept=term.rois(student), own=own, its=its)
        return own, its

    monkeypatch.setattr(term, "compared", look)
    return tiny.losses(model, tiny.batch(size=(192, 256))), seen


@pytest.mark.parametrize("shared", [True, False])
def test_crops_and_gradients_are_those_cut_by_hand(teacher: dict[str, str], shared: bool, monkeypatch):
    model = taught(teacher, tiny.faster_rcnn(), size=7 if shared else 5)
    term = model.terms["one"]
    assert (ROI_CROPS in term.taps) is shared
    if shared:  # by nobody but the RoI head
        monkeypatch.setattr(term.crops.extractors[0], "forward", None)
    losses, seen = watched(model, monkeypatch)
    by_hand = [cut_by_hand(maps, seen["kept"], term.size) for maps in seen["maps"]]
    torch.testing.assert_close(seen["own"], by_hand[0])
    torch.testing.assert_close(seen["its"], by_hand[1])
    gap = (term.adapter(by_hand[0]) - by_hand[1]).square().mean() / 2
    torch.testing.assert_close(losses["loss_one"], gap)
    found, expected = (gradients(one, seen["maps"][0]) for one in (losses["loss_one"], gap))
    assert sum(one.any().item() for one in expected) > 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_num_boxes_an_image_are_compared_from_the_first_to_the_last(teacher: dict[str, str], monkeypatch):
    _, seen = watched(taught(teacher, tiny.faster_rcnn()), monkeypatch)
    boxes, kept = seen["rois"].tolist(), seen["kept"].tolist()
    assert len(boxes) > len(kept) == 2 * NUM
    places = [boxes.index(one) for one in kept]
    steps = {after - before for before, after in pairwise(places)}
    assert places[0] == 0
    assert max(steps) - min(steps) <= 1
    assert len(boxes) - places[-1] in range(min(steps), max(steps) + 2)


def test_fewer_boxes_than_num_are_all_compared(teacher: dict[str, str], monkeypatch):
    _, seen = watched(taught(teacher, tiny.faster_rcnn(), num=1000), monkeypatch)
    assert seen["kept"].equal(seen["rois"])


@pytest.mark.parametrize(("count", "most"), [(0, 3), (1, 3), (3, 3), (10, 3), (10, 1)])
def test_an_even_spread(count: int, most: int):
    assert spread(count, most, torch.device("cpu")).tolist() == [k * count // most for k in range(min(count, most))]


def other(**extractor: Any) -> Any:
    model = tiny.faster_rcnn()
    model.roi_head.bbox_roi_extractor.update(extractor)
    return model


LAYER = dict(type="RoIAlign", output_size=7, sampling_ratio=0)
OTHERWISE = {
    "finest scale": other(finest_scale=28),
    "sampling": other(roi_layer=LAYER | dict(sampling_ratio=2)),
    "alignment": other(roi_layer=LAYER | dict(aligned=False)),
    "levels": other(featmap_strides=[4, 8, 16]),
    "extractor": other(type="GenericRoIExtractor", aggregation="sum"),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_a_roi_head_that_cuts_otherwise_is_not_asked(teacher: dict[str, str], kind: str, monkeypatch):
    model = taught(teacher, OTHERWISE[kind])
    assert ROI_CROPS not in model.terms["one"].taps
    _, seen = watched(model, monkeypatch)
    torch.testing.assert_close(seen["own"], cut_by_hand(seen["maps"][0], seen["kept"]))


def test_nor_is_one_of_which_other_levels_or_another_tap_are_compared(teacher: dict[str, str]):
    others = dict(strides=None), dict(strides=[4, 8]), dict(tap="backbone", strides=[8]), dict(boxes="proposals")
    for config in others:
        assert ROI_CROPS not in taught(teacher, tiny.faster_rcnn(), **config).terms["one"].taps


def test_crops_in_half_precision_are_cut_anew(teacher: dict[str, str]):
    """A box of 1333 px has no exact corners in bf16: the RoI head's crops would lie elsewhere than the teacher's."""
    model = taught(teacher, tiny.faster_rcnn())
    term, rois = model.terms["one"], torch.tensor([[0.0, 3, 5, 61, 67], [1, 8, 9, 77, 93]])
    g = torch.Generator().manual_seed(0)
    maps = {"neck": tuple(torch.randn(2, 16, 96 // s, 128 // s, generator=g).bfloat16() for s in STRIDES)}
    goals = {"neck": tuple(torch.randn(2, 24, 96 // s, 128 // s, generator=g) for s in STRIDES)}
    own, _ = term.compared({**maps, ROIS: rois, ROI_CROPS: torch.full((2, 16, 7, 7), 9.0).bfloat16()}, goals)
    torch.testing.assert_close(own, cut_by_hand(tuple(one.float() for one in maps["neck"]), rois))


def test_without_a_pyramid_they_are_shared_as_well(tmp_path: Path, monkeypatch):
    model = taught(tiny.write_teacher(tmp_path, tiny.c4(12)), tiny.c4(), tap="backbone", strides=None)
    assert ROI_CROPS in model.terms["one"].taps
    _, seen = watched(model, monkeypatch)
    expected = roi_align(seen["maps"][0][0], seen["kept"], (7, 7), 1 / 16, 0, "avg", True)
    torch.testing.assert_close(seen["own"], expected)


def test_no_boxes_give_a_zero_that_trains(teacher: dict[str, str]):
    term = taught(teacher, tiny.faster_rcnn()).terms["one"]
    maps = {"neck": tuple(torch.randn(2, 16, 96 // s, 128 // s).requires_grad_() for s in STRIDES)}
    goals = {"neck": tuple(torch.randn(2, 24, 96 // s, 128 // s) for s in STRIDES)}
    crops = maps["neck"][0].mean() * torch.zeros(0, 16, 7, 7)
    value = term({**maps, ROIS: torch.zeros(0, 5), ROI_CROPS: crops}, goals, NOTHING)
    assert value.item() == 0
    value.backward()
