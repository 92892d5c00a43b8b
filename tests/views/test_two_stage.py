"""What a view shows is what the detector's own modules give when run one after another, by hand."""

from collections import Counter
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from det_distill.views.anatomy import MapSpec
from det_distill.views.two_stage import NAMES, ROIS, TRAINING, TwoStageView

KINDS = {"fpn": tiny.faster_rcnn, "c4": tiny.c4}
LAYER3 = "backbone.layer3"
# By detector: channels and strides of the maps, RPN anchors a cell, channels of a RoI's features.
FPN_MAPS = dict(backbone=[(8, 4), (16, 8), (32, 16), (64, 32)], neck=[(16, s) for s in (4, 8, 16, 32, 64)])
SHAPES = {"fpn": (FPN_MAPS, 3, 16), "c4": (dict(backbone=[(32, 16)]), 9, 32)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@cache
def built(kind: str) -> nn.Module:
    torch.manual_seed(0)
    detector = MODELS.build(KINDS[kind]())
    for parameter in detector.parameters():
        nn.init.normal_(parameter, std=0.1)
    return detector


@pytest.fixture
def detector(kind: str) -> nn.Module:
    return deepcopy(built(kind)).eval()


def batch_of(detector: nn.Module, **size: Any) -> tuple[Tensor, list[Any]]:
    data = detector.data_preprocessor(tiny.batch(**size), training=True)
    return data["inputs"], data["data_samples"]


def by_hand(det: nn.Module, inputs: Tensor, rois: Tensor) -> dict[str, Any]:
    """Module after module, level by level and RoI by RoI."""
    backbone = det.backbone(inputs)
    maps = det.neck(backbone) if det.with_neck else backbone
    rpn = [det.rpn_head.forward_single(level) for level in maps]
    extractor, box = det.roi_head.bbox_roi_extractor, det.roi_head.bbox_head
    features = torch.cat([extractor(maps[: extractor.num_inputs], roi[None]) for roi in rois])
    embedding = features.flatten(1)
    for fc in box.shared_fcs:
        embedding = F.linear(embedding, fc.weight, fc.bias).clamp(min=0)
    x = inputs
    for layer in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
        x = getattr(det.backbone, layer)(x)
    return {
        "backbone": backbone, "neck": maps, "rpn.logits": [a for a, _ in rpn], "rpn.deltas": [b for _, b in rpn],
        "roi.features": features, "roi.embedding": embedding, "roi.logits": box.fc_cls(embedding),
        "roi.deltas": box.fc_reg(embedding), LAYER3: [x],
    }  # fmt: skip


def same(found: Any, expected: Any) -> None:
    if isinstance(found, Tensor):
        return torch.testing.assert_close(found, expected)
    assert len(found) == len(expected)
    return [same(*two) for two in zip(found, expected, strict=True)] and None


def test_shows_during_the_stock_loss_and_alone_what_the_modules_give_by_hand(detector: nn.Module):
    inputs, samples = batch_of(detector)
    view = TwoStageView(detector, "student")
    names = [*view.names(), ROIS, LAYER3]
    with view.record(names) as seen:
        detector.loss(inputs, samples)
    assert set(seen) == set(names)
    expected = by_hand(detector, inputs, seen[ROIS])
    shown = [name for name in names if name not in (ROIS, "roi.targets")]
    alone = view.run(inputs, shown, seen[ROIS])
    for name in shown:
        same(seen[name], expected[name])
        same(alone[name], expected[name])


def test_shows_shapes_as_documented(kind: str, detector: nn.Module):
    maps, anchors, channels = SHAPES[kind]
    inputs, samples = batch_of(detector, size=(128, 192))
    view = TwoStageView(detector, "student")
    with view.record([*view.names(), ROIS]) as seen:
        detector.loss(inputs, samples)
    grids = {stride: (128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)}
    for name, levels in maps.items():
        assert [tuple(one.shape) for one in seen[name]] == [(2, c, *grids[s]) for c, s in levels]
    strides = [s for _, s in maps.get("neck", maps["backbone"])]
    assert [tuple(one.shape) for one in seen["rpn.logits"]] == [(2, anchors, *grids[s]) for s in strides]
    assert [tuple(one.shape) for one in seen["rpn.deltas"]] == [(2, 4 * anchors, *grids[s]) for s in strides]
    n = len(seen[ROIS])
    behind = {ROIS: (5,), "roi.features": (channels, 7, 7), "roi.embedding": (32,), "roi.logits": (4,)}
    for name, shape in (behind | {"roi.deltas": (12,)}).items():
        assert tuple(seen[name].shape) == (n, *shape)


def test_encoded_targets_belong_to_the_recorded_rois(detector: nn.Module):
    inputs, samples = batch_of(detector)
    with TwoStageView(detector, "student").record([ROIS, "roi.targets"]) as seen:
        detector.loss(inputs, samples)
    labels, _, deltas, weights = seen["roi.targets"]
    positives = 0
    for (image, x1, y1, x2, y2), label, delta, weight in zip(
        seen[ROIS].tolist(), labels.tolist(), deltas.tolist(), weights, strict=True
    ):
        truth, best = None, 0.5  # MMDetection's positive threshold
        gt = samples[int(image)].gt_instances
        for (a1, b1, a2, b2), gt_label in zip(gt.bboxes.tolist(), gt.labels.tolist(), strict=True):
            common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            iou = common / max(1e-9, (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common)
            if iou >= best:
                shift = [((a1 + a2) - (x1 + x2)) / 2 / (x2 - x1), ((b1 + b2) - (y1 + y2)) / 2 / (y2 - y1)]
                truth, best = (gt_label, shift), iou
        assert label == (3 if truth is None else truth[0])
        assert weight.tolist() == [float(truth is not None)] * 4
        if truth is not None:
            assert delta[:2] == pytest.approx([s / 0.1 for s in truth[1]], abs=1e-3)
            positives += 1
    assert positives >= 6  # the ground truth is among the sampled boxes


@pytest.mark.parametrize(
    ("names", "stages"),
    [
        ([], []),
        (["backbone"], ["backbone"]),
        ([LAYER3], ["backbone"]),
        (["neck"], ["backbone", "neck"]),
        (["rpn.deltas"], ["backbone", "neck", "rpn_head"]),
        (["rpn_head.rpn_conv"], ["backbone", "neck", "rpn_head"]),
        (["roi.logits"], ["backbone", "neck", "roi_head.bbox_roi_extractor", "roi_head.bbox_head"]),
    ],
    ids=str,
)
def test_runs_each_needed_stage_once_and_no_other(names: list[str], stages: list[str]):
    det, calls = deepcopy(built("fpn")).eval(), Counter()
    for path in ("backbone", "neck", "rpn_head", "roi_head.bbox_roi_extractor", "roi_head.bbox_head"):
        det.get_submodule(path).register_forward_hook(lambda *_, path=path: calls.update([path]))
    TwoStageView(det, "teacher").run(torch.zeros(1, 3, 64, 64), names, torch.tensor([[0.0, 0, 0, 32, 32]]))
    assert calls == dict.fromkeys(stages, 1)


def test_a_dry_run_finds_channels_and_strides(kind: str, detector: nn.Module):
    maps, anchors, channels = SHAPES[kind]
    view = TwoStageView(detector, "student")
    strides = [s for _, s in maps.get("neck", maps["backbone"])]
    expected = {name: tuple(MapSpec(*level) for level in levels) for name, levels in maps.items()} | {
        LAYER3: (MapSpec(32, 16),),
        "rpn.logits": tuple(MapSpec(anchors, s) for s in strides),
        "rpn.deltas": tuple(MapSpec(4 * anchors, s) for s in strides),
        "roi.features": (channels, 7, 7), "roi.embedding": (32,), "roi.logits": (4,), "roi.deltas": (12,),
    }  # fmt: skip
    assert view.dry_run([*view.names(), LAYER3]) == expected
    assert view.head.num_classes == 3


def test_a_dry_run_leaves_flags_statistics_and_randomness_alone(detector: nn.Module):
    detector.train()
    detector.backbone.layer1.eval()
    flags = [module.training for module in detector.modules()]
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    stream = torch.get_rng_state()
    TwoStageView(detector, "student").dry_run(["backbone", "rpn.logits", "roi.logits"])
    assert [module.training for module in detector.modules()] == flags
    assert all(value.equal(state[name]) for name, value in detector.state_dict().items())
    assert torch.get_rng_state().equal(stream)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("fpn", "nek", "did you mean 'neck'"),
        ("fpn", "rpn.logit", "did you mean 'rpn.logits'"),
        ("fpn", "backbone.layer9", "'backbone' has no child 'layer9'; it has 'conv1'"),
        ("fpn", "backbone.", "'backbone' has no child ''"),
        ("fpn", "zzz", "has no tap 'zzz'. It shows backbone, neck"),
        ("c4", "neck", "has no tap 'neck'"),
    ],
    indirect=["kind"],
)
@pytest.mark.parametrize("use", ["dry_run", "run"])
def test_an_unknown_tap_is_refused_with_the_nearest(detector: nn.Module, kind: str, name: str, said: str, use: str):
    view = TwoStageView(detector, "teacher")
    with pytest.raises(ValueError, match="the teacher has no tap") as error:
        view.dry_run([name]) if use == "dry_run" else view.run(torch.zeros(1, 3, 64, 64), [name])
    assert said in str(error.value)
    assert ", ".join(view.names()) in str(error.value)


def test_a_failed_recording_leaves_no_hook(detector: nn.Module):
    sight = TwoStageView(detector, "student").record(["backbone", "backbone.nope"])
    with pytest.raises(ValueError, match="no child 'nope'"), sight:
        pass
    assert not any(module._forward_hooks for module in detector.modules())


def test_names_the_reason_when_nothing_can_be_shown(detector: nn.Module):
    view, inputs = TwoStageView(detector, "teacher"), torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"'roi.targets' exists on the student only"):
        view.run(inputs, ["roi.targets"])
    with pytest.raises(ValueError, match="RoI head needs boxes"):
        view.run(inputs, ["roi.logits"])
    with pytest.raises(ValueError, match=r"'roi_head.bbox_head.fc_cls' shows \(1, 4\), not feature"):
        view.dry_run(["roi_head.bbox_head.fc_cls"])
    with pytest.raises(KeyError, match="was not recorded"):
        view.run(inputs, ["backbone"])["neck"]


def other_family(name: str) -> nn.Module:
    if name == "fast_rcnn":
        model = tiny.faster_rcnn() | dict(type="FastRCNN")
        del model["rpn_head"], model["train_cfg"]["rpn"], model["train_cfg"]["rpn_proposal"]
        return MODELS.build(model)
    model = get_config(f"mmdet::{name}").model
    model["_scope_"] = "mmdet"
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = [64, 128, 256, 512]
    for head in model.get("roi_head", {}).get("bbox_head", []):
        head.fc_out_channels = 8
    return MODELS.build(model)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("retinanet/retinanet_r18_fpn_1x_coco.py", "the student is a RetinaNet; a two-stage detector with an RPN"),
        ("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py", "the student's CascadeRoIHead is a cascade"),
        ("fast_rcnn", "the student is a FastRCNN; a two-stage detector with an RPN"),
    ],
)
def test_other_families_are_refused_by_name(name: str, said: str):
    with pytest.raises(ValueError, match=said):
        TwoStageView(other_family(name), "student")


def test_every_stable_name_is_shown_by_a_detector_with_a_neck():
    assert TwoStageView(built("fpn"), "student").names() == NAMES
