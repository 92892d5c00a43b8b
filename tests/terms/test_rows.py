"""Rows of an RPN's logits: of the anchors that the student samples, in the order in which targets lie."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from shown import NOTHING, maps

from det_distill.terms.rows import RPNRows
from det_distill.views.anatomy import Anatomy

ANCHORS = AnchorGenerator(strides=[8, 16], ratios=[1.0, 2.0], scales=[8])


@pytest.mark.parametrize("values", [1, 2], ids=["sigmoid", "softmax"])
def test_each_sampled_anchor_is_a_row_of_its_values(values: int):
    rows = RPNRows()
    side = Anatomy("either", {}, SimpleNamespace(prior_generator=ANCHORS, use_sigmoid_cls=values == 1))
    rows.wire(side, side)
    logits = maps(2 * values, 8, 16)
    g = torch.Generator().manual_seed(0)
    weights = [torch.rand(2, one.shape[2] * one.shape[3] * 2, generator=g).round() for one in logits]
    expected = [
        [one[b, values * a + k, y, x].item() for k in range(values)]
        for one, on in zip(logits, weights, strict=True)
        for b, y, x, a in product(range(2), range(one.shape[2]), range(one.shape[3]), range(2))
        if on[b, (y * one.shape[3] + x) * 2 + a] > 0
    ]
    student = {"rpn.logits": logits, "rpn.targets": (None, weights)}
    assert [one.tolist() for one in rows.rows([student], NOTHING)] == [expected]
