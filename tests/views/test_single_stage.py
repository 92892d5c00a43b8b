"""What a view of a single-stage detector shows is what its modules give when run one after another, by hand."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

import tiny
from det_distill.views.anatomy import MapSpec
from det_distill.views.base import DENSE_TARGETS, PREACTIVATION
from det_distill.views.families import view_of
from det_distill.views.single_stage import SingleStageView

STRIDES = (8, 16, 32, 64, 128)
# By head: channels of the class logits and of the boxes: RetinaNet has 9 anchors a cell, GFL 17 bins a side.
HEADS = {"retinanet": (27, 36), "fcos": (3, 4), "atss": (3, 4), "gfl": (3, 68)}


@pytest.fixture(params=HEADS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@cache
def built(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(tiny.single_stage(kind))


@pytest.fixture
def detector(kind: str) -> nn.Module:
    return deepcopy(built(kind)).eval()


def by_hand(det: Any, inputs: torch.Tensor) -> dict[str, Any]:
    backbone = det.backbone(inputs)
    maps = det.neck(backbone)
    head = det.bbox_head
    scales = getattr(head, "scales", [None] * len(maps))
    strides = [(one,) for one in STRIDES] if type(head).__name__ == "FCOSHead" else [()] * len(maps)
    found = [
        head.forward_single(level, *([] if scale is None else [scale]), *stride)
        for level, scale, stride in zip(maps, scales, strides, strict=True)
    ]
    return {
        "backbone": backbone,
        "neck": maps,
        "head.logits": [one[0] for one in found],
        "head.deltas": [one[1] for one in found],
    }


def test_shows_during_the_stock_loss_and_alone_what_the_modules_give_by_hand(detector: Any):
    data = detector.data_preprocessor(tiny.batch(size=(128, 192)), training=True)
    view = view_of(detector, "student")
    assert isinstance(view, SingleStageView)
    names = ("backbone", "neck", "head.logits", "head.deltas", PREACTIVATION)
    assert view.names() == (*names, DENSE_TARGETS)
    with view.record(names) as seen:
        detector.loss(*data.values())
    alone, expected = view.run(data["inputs"], names), by_hand(detector, data["inputs"])
    for name, value in expected.items():
        for one, again, goal in zip(seen[name], alone[name], value, strict=True):
            torch.testing.assert_close(one, goal)
            torch.testing.assert_close(again, goal)
    for before, after in zip(seen[PREACTIVATION], seen["backbone"], strict=True):
        assert (before < 0).any()
        assert before.clamp(min=0).equal(after)


def test_a_dry_run_finds_channels_and_strides(kind: str, detector: Any):
    logits, deltas = HEADS[kind]
    view = view_of(detector, "student")
    assert view.dry_run(["neck", "head.logits", "head.deltas", "bbox_head.cls_convs.0"]) == {
        "neck": tuple(MapSpec(16, stride) for stride in STRIDES),
        "head.logits": tuple(MapSpec(logits, stride) for stride in STRIDES),
        "head.deltas": tuple(MapSpec(deltas, stride) for stride in STRIDES),
        "bbox_head.cls_convs.0": tuple(MapSpec(16, stride) for stride in STRIDES),
    }
    anatomy = view.anatomy(["neck"], 0.5)
    assert (anatomy.dense, anatomy.rpn, anatomy.head, anatomy.scale) == (detector.bbox_head, None, None, 0.5)
    assert anatomy.priors is detector.bbox_head.prior_generator
    assert view.classes == 3


def test_only_the_stages_asked_for_run(detector: Any):
    view = view_of(detector, "teacher")
    assert view.stages(["backbone"]) == ["backbone"]
    assert view.stages(["neck"]) == ["backbone", "neck"]
    assert view.stages(["head.logits"]) == view.stages(["bbox_head.cls_convs.0"]) == ["backbone", "neck", "head"]
    detector.bbox_head.register_forward_hook(lambda *_: pytest.fail("the head ran"))
    view.run(torch.zeros(1, 3, 64, 64), ["neck", PREACTIVATION])


@pytest.mark.parametrize("kind", ["retinanet"])
def test_names_of_two_stage_detectors_are_refused(detector: Any):
    view = view_of(detector, "student")
    for name in ("roi.features", "rpn.logits", "roi.rois"):
        with pytest.raises(ValueError, match=f"the student has no tap '{name}'.*It shows backbone, neck, head"):
            view.stage(name)


def test_best_boxes_are_the_stock_detections(detector: Any):
    data = detector.data_preprocessor(tiny.batch(size=(128, 192)), training=False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    seen, boxes = view_of(detector, "teacher").best_boxes(data["inputs"], metas, ["neck"])
    with torch.no_grad():
        stock = detector.predict(*data.values(), rescale=False)
    assert len(seen["neck"]) == 5
    for found, sample in zip(boxes, stock, strict=True):
        torch.testing.assert_close(found, sample.pred_instances.bboxes)


def test_targets_are_what_the_stock_loss_makes_of_the_truth(kind: str, detector: Any):
    data = detector.data_preprocessor(tiny.batch(size=(128, 192)), training=True)
    view, made = view_of(detector, "student"), []
    stock = detector.bbox_head.get_targets
    detector.bbox_head.get_targets = lambda *args, **more: made.append(stock(*args, **more)) or made[-1]
    with view.record([DENSE_TARGETS]) as seen:
        detector.loss(*data.values())
    assert seen[DENSE_TARGETS] is made[0]
    with pytest.raises(ValueError, match=r"'head\.targets' exists on the training student only, but the student is"):
        view.run(data["inputs"], [DENSE_TARGETS])
