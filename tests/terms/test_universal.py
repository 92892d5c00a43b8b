"""What holds for every term, alone, on a pyramid, on one level, and on R-FCN: who learns, who does not, who refuses."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS

import tiny

KINDS = {"fpn": (tiny.faster_rcnn, "neck"), "c4": (tiny.c4, "backbone"), "rfcn": (tiny.rfcn, "neck")}
FULL, NEAR, Q = dict(type="FullMask"), dict(type="AnchorIoUMask"), dict(type="Quantiser", step=0.01, signed=True)
TERMS: dict[str, dict[str, Any]] = {
    "soft labels, roi": dict(type="WeightedSoftLabels", head="roi", weight=0.5),
    "soft labels, rpn": dict(type="WeightedSoftLabels", head="rpn", weight=0.5),
    "bounded boxes, roi": dict(type="BoundedRegression", head="roi", margin=1e3),
    "bounded boxes, rpn": dict(type="BoundedRegression", head="rpn", margin=1e3),
    "hint": dict(type="FeatureImitation", tap="MAPS", mask=FULL, distance="l2", weight=0.5),
    "imitation": dict(type="FeatureImitation", tap="MAPS", mask=NEAR, weight=0.05),
    "quantised imitation": dict(type="FeatureImitation", tap="MAPS", mask=NEAR, weight=0.05, quantiser=Q),
    "proposals": dict(type="ProposalMimic", tap="MAPS", weight=1),
    "sampled, native": dict(type="ProposalMimic", tap="MAPS", weight=1, boxes="sampled", crop="native"),
    "quantised proposals": dict(type="ProposalMimic", tap="MAPS", weight=1, quantiser=Q, normalise=False),
    "roi features": dict(type="ProposalMimic", tap="roi.features", weight=1),
    "class scores": dict(type="ProposalMimic", tap="roi.logits", weight=1),
    "box outputs": dict(type="ProposalMimic", tap="roi.deltas", weight=1),
}
ADAPTED = {
    "hint",
    "imitation",
    "quantised imitation",
    "proposals",
    "sampled, native",
    "quantised proposals",
    "roi features",
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=TERMS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def on(kind: str, name: str) -> dict[str, Any]:
    cfg = dict(TERMS[name])
    return cfg | dict(tap=KINDS[kind][1]) if cfg.get("tap") == "MAPS" else cfg


def built(folder: Path, kind: str, term: dict[str, Any], teacher: Any = None, **other: Any) -> Any:
    make = KINDS[kind][0]
    torch.manual_seed(0)
    model = MODELS.build(
        tiny.distiller(make(8), tiny.write_teacher(folder, teacher or make(12)), terms=dict(one=term), **other)
    )
    for value in model.student.parameters():
        torch.nn.init.normal_(value, std=0.1)  # R-FCN's own start is too near zero for a gradient to be seen in fp32
    return model


def value_of(model: Any, data: dict[str, Any]) -> torch.Tensor:
    losses = tiny.losses(model, data)
    assert losses["loss_one"].isfinite()
    return losses["loss_one"]


def test_one_step_moves_student_and_adapters_and_never_the_teacher(kind, name, tmp_path):
    model = built(tmp_path, kind, on(kind, name))
    before = deepcopy(model.teacher.detector.state_dict())
    value = value_of(model, tiny.batch())
    value.backward()
    assert value > 0
    backbone = [p.grad for p in model.student.backbone.parameters() if p.grad is not None]
    assert any(grad.any() for grad in backbone)
    adapters = dict(model.terms.named_parameters())
    assert bool(adapters) == (name in ADAPTED and not (kind == "rfcn" and name == "nothing"))
    weights = {key: p.grad for key, p in adapters.items() if key.endswith("weight")}
    if (
        adapters and name != "imitation" and name != "quantised imitation"
    ):  # these two reach the levels that hold objects
        assert all(grad is not None and grad.any() for grad in weights.values()), weights.keys()
    elif adapters:
        assert any(grad.any() for grad in weights.values())
    teacher = model.teacher.detector
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(after[key].equal(before[key]) for key in before)


def test_no_ground_truth_is_a_finite_value(kind, name, tmp_path):
    value = value_of(built(tmp_path, kind, on(kind, name)), tiny.batch(boxes=0))
    value.backward()


def test_one_image_without_boxes_beside_one_with_is_finite(kind, name, tmp_path):
    data = tiny.batch()
    data["data_samples"][0].gt_instances = data["data_samples"][0].gt_instances[:0]
    value_of(built(tmp_path, kind, on(kind, name)), data).backward()


@pytest.mark.parametrize("kind", ["fpn", "c4"])
@pytest.mark.parametrize("name", ["soft labels, rpn", "bounded boxes, rpn"])
def test_other_anchors_are_refused(kind, name, tmp_path):
    teacher = KINDS[kind][0](12)
    teacher.rpn_head.anchor_generator.scales = [3] if kind == "fpn" else [2, 4, 9]
    with pytest.raises(ValueError, match=r"terms\.one: the anchors at stride .* differ: .*same anchor_generator"):
        built(tmp_path, kind, on(kind, name), teacher)


@pytest.mark.parametrize("head", ["rpn", "roi"])
def test_other_box_coders_are_refused(kind, head, tmp_path):
    teacher = KINDS[kind][0](12)
    part = teacher.rpn_head if head == "rpn" else teacher.roi_head.bbox_head
    part.bbox_coder = dict(type="DeltaXYWHBBoxCoder", target_stds=[0.3, 0.3, 0.2, 0.2])
    said = rf"terms\.one: the box coders of the {head} heads differ.*stds: .* on the student, \(0\.3, 0\.3, 0\.2, 0\.2\) on"
    with pytest.raises(ValueError, match=said):
        built(tmp_path, kind, dict(type="BoundedRegression", head=head), teacher)
    with pytest.raises(ValueError, match="box coders of the roi heads differ") if head == "roi" else _nothing():
        built(tmp_path, kind, on(kind, "box outputs"), teacher)


class _nothing:
    def __enter__(self) -> None:
        """Box outputs of the RoI head do not mind the RPN's coder."""

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", ["soft labels, roi", "class scores"])
def test_other_classes_are_refused_even_where_class_checks_are_off(kind, name, tmp_path):
    make = KINDS[kind][0]
    teacher = tiny.write_teacher(tmp_path, make(12, classes=5)) | dict(check_classes=False)
    with pytest.raises(ValueError, match=r"terms\.one: 'roi\.logits'.*4.* on the student and .*6.* on the teacher"):
        MODELS.build(tiny.distiller(make(8), teacher, terms=dict(one=on(kind, name))))


def test_class_specific_boxes_of_other_classes_are_refused(tmp_path):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(12, classes=5)) | dict(check_classes=False)
    with pytest.raises(ValueError, match=r"class-specific boxes of 3 classes on the student, 5 on the teacher"):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(8), teacher, terms=dict(one=TERMS["bounded boxes, roi"])))


def test_a_softmax_rpn_is_refused(tmp_path):
    teacher = tiny.faster_rcnn(12)
    teacher.rpn_head.loss_cls.use_sigmoid = False
    with pytest.raises(ValueError, match="the teacher's RPN has a softmax"):
        built(tmp_path, "fpn", TERMS["soft labels, rpn"], teacher)


def test_both_roi_heads_see_identical_boxes(kind, tmp_path):
    """The student's sampled boxes, recorded at the RoI extractors of both sides, equal to the bit."""
    model = built(tmp_path, kind, TERMS["class scores"])
    boxes = {}
    for side, detector in (("student", model.student), ("teacher", model.teacher.detector)):
        detector.roi_head.bbox_roi_extractor.register_forward_hook(
            lambda _m, args, _o, side=side: boxes.setdefault(side, []).append(args[1].clone())
        )
    tiny.losses(model, tiny.batch())
    assert len(boxes["teacher"]) == 1
    assert boxes["student"][-1].equal(boxes["teacher"][0])
    assert len(boxes["teacher"][0]) > 6


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("name", ["soft labels, roi", "bounded boxes, roi"])
def test_an_rfcn_and_a_faster_rcnn_teach_each_other(student, name, tmp_path):
    """Class-agnostic boxes beside class-specific ones: the ground truth's slot is compared."""
    teacher = tiny.rfcn(12) if student != "rfcn" else tiny.faster_rcnn(12)
    value = value_of(built(tmp_path, student, TERMS[name], teacher), tiny.batch())
    assert value > 0
