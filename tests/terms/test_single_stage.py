"""Terms on single-stage students, taught by one of their own kind and, of features, by a Faster R-CNN."""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from torch import Tensor

import tiny
from det_distill.wiring import wired_terms

FULL, NEAR, BOX, POINT = (dict(type=f"{name}Mask") for name in ("Full", "AnchorIoU", "GtBox", "Point"))
CONV = dict(type="ConvAdapter", kernel=1)
FEATURES: dict[str, dict[str, Any]] = {
    "hint": dict(type="FeatureImitation", tap="neck", mask=FULL, distance="l2"),
    "near_boxes": dict(type="FeatureImitation", tap="neck", mask=BOX),
    "near_anchors": dict(type="FeatureImitation", tap="neck", mask=NEAR),
    "near_points": dict(type="FeatureImitation", tap="neck", mask=POINT),
    "attention": dict(type="AttentionTransfer", tap="neck"),
    "flow": dict(type="FlowOfSolution", tap="neck", adapter=CONV),
    "selectivity": dict(type="NeuronSelectivity", tap="neck"),
    "firing": dict(type="ActivationBoundary"),
    "places": dict(type="PairWise", tap="neck"),
    "distances": dict(type="DistanceRelation", tap="neck"),
    "angles": dict(type="AngleRelation", tap="neck"),
    "ranking": dict(type="DarkRank", tap="neck"),
    "triplets": dict(type="TripletMargin", tap="neck"),
}
ANSWERS: dict[str, dict[str, Any]] = {
    "critic": dict(type="Holistic", tap="head.logits", size=8, width=4),
    "cells": dict(type="PixelWise", tap="head.logits"),
    "soft_labels": dict(type="SoftLabels", head="dense"),
}
BINS = dict(boxes=dict(type="LocalisationDistillation"))  # of heads that have them
ADAPTED = {"hint", "near_boxes", "near_anchors", "near_points", "flow", "firing"}
SHARED = [8, 16, 32, 64]  # of a single-stage neck and a Faster R-CNN's


def terms(student: str, teacher: str, weight: float = 1.0) -> dict[str, dict[str, Any]]:
    """Those that work for a student of one kind and a teacher of another."""
    unfit = "near_anchors" if student == "fcos" else "near_points"
    found = {name: cfg | dict(weight=weight) for name, cfg in FEATURES.items() if name != unfit}
    if teacher == "faster_rcnn":
        return {name: cfg | dict(strides=SHARED) if cfg.get("tap") == "neck" else cfg for name, cfg in found.items()}
    answers = ANSWERS | BINS if student == "gfl" else ANSWERS
    return found | {name: cfg | dict(weight=weight) for name, cfg in answers.items()}


def built(student: str, teacher: str, configs: Mapping[str, Any]) -> Any:
    its = tiny.faster_rcnn(12, 24) if teacher == "faster_rcnn" else tiny.single_stage(teacher, 12, 24)
    with TemporaryDirectory() as folder:
        files = tiny.write_teacher(Path(folder), its)
        torch.manual_seed(0)
        return MODELS.build(tiny.distiller(tiny.single_stage(student), files, terms=configs))


@cache
def nets(student: str, teacher: str) -> Any:
    return built(student, teacher, {})


def wired(student: str, teacher: str, cfg: Mapping[str, Any]) -> None:
    """Fit one term to both nets, as a Distiller does."""
    model = nets(student, teacher)
    wired_terms(dict(one=dict(cfg, weight=1)), model.view, model.teachers, 1.0)


@cache
def stepped(student: str, teacher: str, boxes: int) -> tuple[Any, dict[str, Any]]:
    """A Distiller of all the terms that work, and what one training step says; the teacher before it as `before`."""
    model = built(student, teacher, terms(student, teacher))
    model.before = deepcopy(model.teacher.detector.state_dict())
    return model, tiny.losses(model, tiny.batch(boxes=boxes))


PAIRS = [(kind, teacher) for kind in tiny.SINGLE_STAGE for teacher in (kind, "faster_rcnn")]
EACH = [(*pair, name) for pair in PAIRS for name in terms(*pair)]


def gradients(value: Tensor, module: Any) -> dict[str, Tensor]:
    learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(value, list(learning.values()), retain_graph=True, allow_unused=True)
    return {name: grad for name, grad in zip(learning, found, strict=True) if grad is not None}


@pytest.mark.parametrize(("student", "teacher", "name"), EACH)
def test_a_step_reaches_the_backbone_and_the_adapters(student: str, teacher: str, name: str):
    model, losses = stepped(student, teacher, 3)
    value = losses[f"loss_{name}"]
    assert value.isfinite()
    assert value > 0 or name == "critic"  # whose judgement has any sign
    assert any(grad.any() for grad in gradients(value, model.student.backbone).values())
    adapters = [bool(grad.any()) for grad in gradients(value, model.terms).values()]
    assert (any if name.startswith("near") else all)(adapters) or not adapters  # a mask may leave a level out
    assert bool(adapters) == (name in ADAPTED)


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_a_step_leaves_the_teacher_as_it_was(student: str, teacher: str):
    model, losses = stepped(student, teacher, 3)
    detector = model.teacher.detector
    sum(losses[f"loss_{name}"] for name in model.terms).backward(retain_graph=True)
    assert not detector.training
    assert all(p.grad is None and not p.requires_grad for p in detector.parameters())
    assert all(value.equal(model.before[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_no_ground_truth_gives_every_term_a_finite_value_that_trains(student: str, teacher: str):
    model, losses = stepped(student, teacher, 0)
    values = {name: losses[f"loss_{name}"] for name in model.terms}
    assert [name for name, value in values.items() if not (value.isfinite() and value.requires_grad)] == []
    assert all(grad.isfinite().all() for grad in gradients(sum(values.values()), model).values())


@pytest.mark.parametrize("kind", tiny.SINGLE_STAGE)
def test_at_weight_zero_training_is_stock_to_the_bit(kind: str):
    results = []
    for distilled in (False, True):
        torch.manual_seed(3)
        model = built(kind, kind, terms(kind, kind, 0.0)) if distilled else MODELS.build(tiny.single_stage(kind))
        torch.manual_seed(3)
        model.init_weights()
        model.train()
        optim = build_optim_wrapper(model, dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02, momentum=0.9)))
        results.append(([model.train_step(tiny.batch(seed=step), optim) for step in range(3)], model.state_dict()))
    (stock, plain), (logs, weights) = results
    for ours, theirs in zip(logs, stock, strict=True):
        assert {key: ours.pop(f"loss_{key}").item() for key in terms(kind, kind)} == dict.fromkeys(terms(kind, kind), 0)
        assert {key: value.item() for key, value in ours.items()} == {key: v.item() for key, v in theirs.items()}
    assert list(weights) == list(plain)
    assert all(weights[key].equal(plain[key]) for key in weights)


TWO_STAGE: dict[str, dict[str, Any]] = {
    "roi.features": dict(type="ProposalMimic", tap="roi.features"),
    "rpn.proposals": dict(type="ProposalMimic", tap="neck"),
    "roi.logits": dict(type="SoftLabels", head="roi"),
    "rpn.logits": dict(type="PixelWise", tap="rpn.logits"),
    "rpn.targets|rpn.logits": dict(type="SoftLabels", head="rpn"),
    "roi.deltas": dict(type="BoundedRegression", head="roi"),
    "roi.embedding": dict(type="NeuronSelection"),
    "roi.rois|roi.embedding": dict(type="DistanceRelation"),
}


@pytest.mark.parametrize("tap", TWO_STAGE)
def test_taps_of_two_stages_are_refused_by_name(tap: str):
    with pytest.raises(ValueError, match=rf"terms\.one: the student has no tap '({tap})'.*It shows backbone, neck, he"):
        wired("fcos", "fcos", TWO_STAGE[tap])


REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "anchors of points": ("fcos", "fcos", FEATURES["near_anchors"], "AnchorIoUMask needs anchors, the student judges "
                          "points; use PointMask or GtBoxMask"),
    "soft labels of anchors by points": ("retinanet", "fcos", ANSWERS["soft_labels"], "9 anchors or points a cell on "
                                         "the student, 1 on the teacher"),
    "cells of anchors by points": ("retinanet", "fcos", ANSWERS["cells"], "9 anchors or points a cell on the student, "
                                   "1 on the teacher"),
    "answers of a two-stage teacher": ("fcos", "faster_rcnn", ANSWERS["cells"], "the teacher has no tap 'head.logits'"),
    "levels nobody shares": ("fcos", "faster_rcnn", FEATURES["attention"], r"set strides=\[8, 16, 32, 64\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_by_the_term_s_name(case: str):
    student, teacher, cfg, said = REFUSED[case]
    with pytest.raises(ValueError, match=rf"terms\.one: .*{said}"):
        wired(student, teacher, cfg)
