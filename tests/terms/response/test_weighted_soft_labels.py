"""Weighted soft labels as a term: background last, the student's sampled boxes and anchors, mu beside the task."""

from itertools import product
from math import log
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.registry import MODELS
from torch import Tensor

import tiny
from det_distill.terms.response.weighted_soft_labels import WeightedSoftLabels
from det_distill.views.anatomy import Anatomy, MapSpec

A, GRIDS = 3, [(4, 5), (2, 3)]
PRIORS = AnchorGenerator(strides=[8, 16], ratios=[0.5, 1.0, 2.0], scales=[8])


def side(name: str, shows: dict[str, Any], classes: int = 2, **head: Any) -> Anatomy:
    box = SimpleNamespace(loss_cls=SimpleNamespace(use_sigmoid=False), num_classes=classes, **head)
    return Anatomy(name, shows, SimpleNamespace(prior_generator=PRIORS, use_sigmoid_cls=True), box)


def wired(head: str, **config: Any) -> WeightedSoftLabels:
    term = WeightedSoftLabels(head, weight=1, **config)
    shows = {"roi.logits": (3,), "rpn.logits": tuple(MapSpec(A, s) for s in (8, 16))}
    term.wire(side("student", shows), side("teacher", shows))
    return term


def test_the_background_is_the_last_class():
    # The oracle of the method notes has it first: P_t = (.7, .2, .1), P_s = (.5, .3, .2), weight 1.5 on .7.
    student, teacher = torch.tensor([[0.3, 0.2, 0.5]]).log(), torch.tensor([[0.2, 0.1, 0.7]]).log()
    value = wired("roi")({"roi.logits": student}, {"roi.logits": teacher}, None)
    assert value.item() == pytest.approx(-(1.5 * 0.7 * log(0.5) + 0.2 * log(0.3) + 0.1 * log(0.2)))
    assert value.item() == pytest.approx(1.129543, abs=1e-6)


def rpn_case(density: float) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    g = torch.Generator().manual_seed(3)
    maps = [[torch.randn(2, A, *grid, generator=g, requires_grad=True) for grid in GRIDS] for _ in range(2)]
    return maps[0], maps[1], [(torch.rand(2, h * w * A, generator=g) < density).float() for h, w in GRIDS]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_the_rpn_s_value_is_the_formula_anchor_by_anchor(density, temperature):
    own, its, weights = rpn_case(density)
    total, count = 0.0, 0
    for level, (h, w) in enumerate(GRIDS):
        for b, y, x, a in product(range(2), range(h), range(w), range(A)):
            if weights[level][b, (y * w + x) * A + a] > 0:  # targets lie by row, column, anchor
                p = 1 / (1 + 2.718281828459045 ** (-its[level][b, a, y, x].item() / temperature))
                s = 1 / (1 + 2.718281828459045 ** (-own[level][b, a, y, x].item() / temperature))
                total -= p * log(s) + 1.3 * (1 - p) * log(1 - s)
                count += 1
    term = wired("rpn", background_weight=1.3, temperature=temperature)
    value = term({"rpn.logits": own, "rpn.targets": (None, weights, None, None, 0)}, {"rpn.logits": its}, None)
    assert value.item() == pytest.approx(total / max(1, count), rel=1e-5)
    value.backward()
    assert all(one.grad is not None for one in own)
    assert all(one.grad is None for one in its)


def test_mu_blends_ground_truth_and_teacher(tmp_path):
    """L_cls = mu CE + (1 - mu) L_soft on the same sampled boxes, summed up box by box."""
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(12))
    mu, terms = 0.3, dict(soft=dict(type="WeightedSoftLabels", head="roi", weight=0.7))
    torch.manual_seed(0)
    model = MODELS.build(tiny.distiller(tiny.faster_rcnn(8), teacher, terms=terms, task_weights=dict(loss_cls=mu)))
    data = tiny.batch()
    seen: dict[str, Any] = {}
    roi = model.student.roi_head
    hooks = [
        roi.bbox_roi_extractor.register_forward_hook(lambda _m, args, _o: seen.update(rois=args[1])),
        roi.bbox_head.register_forward_hook(lambda _m, _a, out: seen.update(own=out[0])),
        model.teacher.detector.roi_head.bbox_head.register_forward_hook(lambda _m, _a, out: seen.update(its=out[0])),
    ]
    inner = roi.bbox_head.get_targets
    roi.bbox_head.get_targets = lambda *a, **k: seen.setdefault("targets", inner(*a, **k))
    losses = tiny.losses(model, data)
    ce = soft = 0.0
    for own, its, label in zip(seen["own"], seen["its"], seen["targets"][0], strict=True):
        log_s, p_t = own.log_softmax(0), its.softmax(0)
        ce -= log_s[label].item()
        soft -= sum((1.5 if c == 3 else 1) * p_t[c].item() * log_s[c].item() for c in range(4))
    n = len(seen["own"])
    assert losses["loss_cls"].item() == pytest.approx(mu * ce / n, rel=1e-4)
    assert losses["loss_soft"].item() == pytest.approx(0.7 * soft / n, rel=1e-4)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (dict(head="rcnn"), r"head='rcnn' is none of 'roi', 'rpn'"),
        (dict(head="roi", temperature=0), "temperature=0; a number of at least"),
        (dict(head="roi", background_weight=-1), "background_weight=-1; a number of at least 0"),
        (dict(head="roi", background_weight=float("nan")), "background_weight=nan"),
    ],
)
def test_bad_arguments_are_named(config, said):
    with pytest.raises(ValueError, match=said):
        WeightedSoftLabels(weight=1, **config)


def test_sigmoid_class_heads_are_refused():
    term, shows = WeightedSoftLabels("roi", 1), {"roi.logits": (3,)}
    teacher = side("teacher", shows)
    teacher.head.loss_cls.use_sigmoid = True
    with pytest.raises(ValueError, match="the teacher's RoI head has sigmoid classes"):
        term.wire(side("student", shows), teacher)
