"""What holds for every term, alone, on a pyramid, on one level, and on R-FCN: who learns, who does not, who refuses."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

import tiny
from det_distill.terms.base import Term

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
    "soft targets, roi": dict(type="SoftLabels", head="roi", weight=1),
    "soft targets, rpn": dict(type="SoftLabels", head="rpn", weight=1),
    "boundary samples": dict(type="BoundarySamples", weight=1),
    "cell scores": dict(type="PixelWise", tap="rpn.logits", weight=1),
    "attention": dict(type="AttentionTransfer", tap="MAPS", weight=1),
    "flow": dict(type="FlowOfSolution", tap="MAPS", adapter=dict(type="ConvAdapter", kernel=1), weight=1),
    "selectivity": dict(type="NeuronSelectivity", tap="MAPS", weight=1),
    "firing": dict(type="ActivationBoundary", weight=1),
    "critic": dict(type="Holistic", tap="MAPS", adapter=dict(type="ConvAdapter"), size=8, width=4, weight=1),
    "neurons": dict(type="NeuronSelection", budget=2, samples=4, weight=1),
    "distances": dict(type="DistanceRelation", weight=1),
    "angles": dict(type="AngleRelation", per="image", weight=1),
    "ranking, hard": dict(type="DarkRank", kind="hard", weight=1),
    "ranking, soft": dict(type="DarkRank", kind="soft", boxes="sampled", cap=16, weight=1),
    "triplets": dict(type="TripletMargin", weight=1),
    "crops": dict(type="DistanceRelation", tap="MAPS", weight=1),
    "places": dict(type="PairWise", tap="MAPS", weight=1),
}
ADAPTED = {
    "hint",
    "imitation",
    "quantised imitation",
    "proposals",
    "sampled, native",
    "quantised proposals",
    "roi features",
    "boundary samples",
    "flow",
    "firing",
    "critic",
    "neurons",
}
REFUSED = {
    ("c4", "flow"): r"terms\.one: 'backbone' has 1 level to compare; a flow is between two",
    ("rfcn", "flow"): r"terms\.one: 'neck' has 1 level to compare; a flow is between two",
    ("rfcn", "neurons"): r"terms\.one: 'roi\.embedding' is no vector a box on the teacher: \(4, 4, 4\)",
}
WORKING = [(kind, name) for kind in KINDS for name in TERMS if (kind, name) not in REFUSED]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def on(kind: str, name: str) -> dict[str, Any]:
    cfg = dict(TERMS[name])
    return cfg | dict(tap=KINDS[kind][1]) if cfg.get("tap") == "MAPS" else cfg


def built(folder: Path, kind: str, terms: dict[str, Any], teacher: Any = None) -> Any:
    make = KINDS[kind][0]
    torch.manual_seed(0)
    model = MODELS.build(tiny.distiller(make(8), tiny.write_teacher(folder, teacher or make(12)), terms=terms))
    for value in model.student.parameters():
        torch.nn.init.normal_(value, std=0.1)  # R-FCN's own start is too near zero for a gradient to be seen in fp32
    for detector in (model.student, model.teacher.detector):
        _say_background(detector.roi_head)
    return model


def _say_background(roi_head: Any) -> None:
    """Bias a RoI head towards what most sampled boxes are, so that both nets judge some of them right."""
    head = roi_head.bbox_head
    if hasattr(head.fc_cls, "bias"):
        head.fc_cls.bias.data[-1] += 3
    else:  # R-FCN's scores, a bin after another
        scores = roi_head.bbox_roi_extractor.conv_cls.bias.data
        scores.view(head.num_classes + 1, -1)[-1] += 0.3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One Distiller of every term for each kind of student; a test gives weight to one term alone."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return {
            kind: built(tmp_path_factory.mktemp(kind), kind, {_id(n): on(kind, n) for k, n in WORKING if k == kind})
            for kind in KINDS
        }


def _id(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_")


@pytest.fixture
def alone(models: dict[str, Any], kind: str, name: str) -> Any:
    """The kind's Distiller with one active term, its gradients cleared."""
    model = models[kind]
    for key, term in model.terms.items():
        term.weight = float(key == _id(name))
    model.zero_grad()
    return model


def value_of(model: Any, name: str, data: dict[str, Any]) -> torch.Tensor:
    value = of_term(name, tiny.losses(model, data))
    assert value.isfinite()
    return value


def of_term(name: str, losses: dict[str, Any]) -> torch.Tensor:
    """A term's value, or the sum of its parts."""
    key = f"loss_{_id(name)}"
    return sum(value for one, value in losses.items() if one == key or one.startswith(f"{key}."))


SINGLE_STAGE_ALONE = {"LocalisationDistillation"}  # stands in test_single_stage.py


def test_every_term_is_here():
    known = {one.__name__ for one in MODELS.module_dict.values() if isinstance(one, type) and issubclass(one, Term)}
    assert known == {cfg["type"] for cfg in TERMS.values()} | SINGLE_STAGE_ALONE


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_what_cannot_work_on_a_detector_is_refused(kind, name, tmp_path):
    with pytest.raises(ValueError, match=REFUSED[kind, name]):
        built(tmp_path, kind, dict(one=on(kind, name)))


@pytest.mark.parametrize(("kind", "name"), WORKING)
def test_one_step_moves_student_and_adapters_and_never_the_teacher(alone, name):
    teacher = alone.teacher.detector
    before = deepcopy(teacher.state_dict())
    value = value_of(alone, name, tiny.batch())
    value.backward()
    assert value > 0 or name == "critic"  # whose judgement has any sign
    assert any(p.grad is not None and p.grad.any() for p in alone.student.backbone.parameters())
    own = alone.terms[_id(name)].named_parameters()
    weights = {key: p.grad for key, p in own if key.endswith("weight") and p.requires_grad}  # a critic asks for none
    assert bool(weights) == (name in ADAPTED)
    moved = [grad is not None and bool(grad.any()) for grad in weights.values()]
    # A mask near objects leaves out the levels that hold none.
    assert (any if "imitation" in name else all)(moved) or not weights
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(after[key].equal(before[key]) for key in before)


def emptied(images: int) -> dict[str, Any]:
    """Two images, of which so many lost their boxes."""
    data = tiny.batch()
    for sample in data["data_samples"][:images]:
        sample.gt_instances = sample.gt_instances[:0]
    return data


@pytest.mark.parametrize("images", [1, 2])
def test_images_without_boxes_give_every_term_a_finite_value_that_trains(models, kind, images):
    """All terms at once: a step with one of them costs as much."""
    model = models[kind]
    for term in model.terms.values():
        term.weight = 1.0
    model.zero_grad()
    losses = tiny.losses(model, emptied(images))
    values = {name: of_term(name, losses) for other, name in WORKING if other == kind}
    assert [name for name, value in values.items() if not (value.isfinite() and value.requires_grad)] == []
    sum(values.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["fpn", "c4"])
@pytest.mark.parametrize("name", ["soft labels, rpn", "bounded boxes, rpn"])
def test_other_anchors_are_refused(kind, name, tmp_path):
    teacher = KINDS[kind][0](12)
    teacher.rpn_head.anchor_generator.scales = [3] if kind == "fpn" else [2, 4, 9]
    with pytest.raises(ValueError, match=r"terms\.one: the anchors at stride .* differ: .*same anchor_generator"):
        built(tmp_path, kind, dict(one=on(kind, name)), teacher)


@pytest.mark.parametrize("name", ["bounded boxes, rpn", "bounded boxes, roi", "box outputs"])
def test_other_box_coders_are_refused(kind, name, tmp_path):
    teacher, head = KINDS[kind][0](12), "rpn" if "rpn" in name else "roi"
    part = teacher.rpn_head if head == "rpn" else teacher.roi_head.bbox_head
    part.bbox_coder = dict(type="DeltaXYWHBBoxCoder", target_stds=[0.3, 0.3, 0.2, 0.2])
    said = rf"terms\.one: the box coders of the {head} heads differ.*on the student, \(0\.3, 0\.3, 0\.2, 0\.2\) on"
    with pytest.raises(ValueError, match=said):
        built(tmp_path, kind, dict(one=on(kind, name)), teacher)


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
        built(tmp_path, "fpn", dict(one=TERMS["soft labels, rpn"]), teacher)


@pytest.mark.parametrize("name", ["class scores"])
def test_both_roi_heads_see_identical_boxes(alone):
    """The student's sampled boxes, recorded at the RoI extractors of both sides, equal to the bit."""
    boxes: dict[str, list[torch.Tensor]] = dict(student=[], teacher=[])
    hooks = [
        detector.roi_head.bbox_roi_extractor.register_forward_hook(
            lambda _module, args, _output, side=side: boxes[side].append(args[1].clone())
        )
        for side, detector in (("student", alone.student), ("teacher", alone.teacher.detector))
    ]
    tiny.losses(alone, tiny.batch())
    for hook in hooks:
        hook.remove()
    assert len(boxes["teacher"]) == 1
    assert boxes["student"][-1].equal(boxes["teacher"][0])
    assert len(boxes["teacher"][0]) > 6


@pytest.mark.parametrize(("student", "teacher"), [("fpn", tiny.rfcn), ("rfcn", tiny.faster_rcnn)])
def test_an_rfcn_and_a_faster_rcnn_teach_each_other(student, teacher, tmp_path):
    """Class-agnostic boxes beside class-specific ones: the ground truth's slot is compared."""
    names = ["soft labels, roi", "bounded boxes, roi"]
    model = built(tmp_path, student, {_id(name): TERMS[name] for name in names}, teacher(12))
    for name in names:
        assert value_of(model, name, tiny.batch()) > 0
