"""Scores cell by cell as a term, judged one cell, anchor and class at a time."""

from itertools import product
from math import exp, log
from types import SimpleNamespace
from typing import Any

import pytest
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from shown import NOTHING, maps, specs
from torch import Tensor

from det_distill.terms.response.pixel_wise import PixelWise
from det_distill.views.anatomy import Anatomy

ANCHORS = AnchorGenerator(strides=[8, 16], ratios=[1.0, 2.0], scales=[8])


def dense(sigmoid: bool, anchors: int = 2) -> Any:
    return SimpleNamespace(use_sigmoid_cls=sigmoid, num_base_priors=anchors, prior_generator=ANCHORS)


def wired(own: Any, its: Any, tap: str = "head.logits") -> PixelWise:
    term, shows = PixelWise(tap, weight=1), {tap: specs(6, 8, 16)}
    term.wire(Anatomy("student", shows, dense=own), Anatomy("teacher", shows, dense=its))
    return term


def one_by_one(student: Tensor, teacher: Tensor, sigmoid: bool) -> float:
    """Two anchors of three classes: channel 3 a + k."""
    images, _, height, width = student.shape
    total = 0.0
    for b, y, x, a in product(range(images), range(height), range(width), range(2)):
        s, t = (side[b, 3 * a : 3 * a + 3, y, x].tolist() for side in (student, teacher))
        if sigmoid:
            for z, v in zip(s, t, strict=True):
                q, p = 1 / (1 + exp(-v)), 1 / (1 + exp(-z))
                total -= q * log(p) + (1 - q) * log(1 - p)
        else:
            for z, v in zip(s, t, strict=True):
                total -= exp(v) / sum(map(exp, t)) * log(exp(z) / sum(map(exp, s)))
    return total / (height * width)


@pytest.mark.parametrize("sigmoid", [True, False])
def test_it_is_the_cross_entropy_summed_over_anchors_and_images_and_averaged_over_levels(sigmoid: bool):
    own, its = maps(6, 8, 16), maps(6, 8, 16, seed=1)
    levels = [one_by_one(s, t, sigmoid) for s, t in zip(own, its, strict=True)]
    value = wired(dense(sigmoid), dense(sigmoid))({"head.logits": own}, {"head.logits": its}, NOTHING)
    assert value.item() == pytest.approx(sum(levels) / 2, rel=1e-5)
    value.backward()
    assert all(one.grad is None for one in its)


@pytest.mark.parametrize(
    ("own", "its", "tap", "said"),
    [
        (dense(True), dense(True), "neck", "tap='neck' shows no class scores; one of head.logits, rpn.logits"),
        (dense(True), dense(False), "head.logits", "one of the nets has a softmax, the other sigmoids"),
        (dense(True), dense(True, 1), "head.logits", "2 anchors or points a cell on the student, 1 on the teacher"),
    ],
)
def test_what_does_not_compare_is_refused(own: Any, its: Any, tap: str, said: str):
    with pytest.raises(ValueError, match=said):
        wired(own, its, tap)
