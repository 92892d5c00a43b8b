"""The teacher-bounded regression as a term: positives only, the right slot, the stock normaliser."""

from itertools import product
from typing import Any

import pytest
import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from torch import Tensor

from det_distill.terms.response.bounded_regression import BoundedRegression

A, GRIDS = 3, [(4, 5), (2, 3)]


def bounded(own: Tensor, its: Tensor, goal: Tensor, margin: float) -> float:
    """One box: its squared distance if that plus the margin exceeds the teacher's."""
    e_s, e_t = (sum((a - b) ** 2 for a, b in zip(one.tolist(), goal.tolist(), strict=True)) for one in (own, its))
    return e_s if e_s + margin > e_t else 0.0


@pytest.mark.parametrize("margin", [0.0, 0.5, 100.0])
@pytest.mark.parametrize(("own_agnostic", "its_agnostic"), [(True, True), (False, False), (True, False), (False, True)])
def test_the_roi_value_is_the_formula_box_by_box_in_the_ground_truth_s_slot(own_agnostic, its_agnostic, margin):
    g = torch.Generator().manual_seed(5)
    n, classes = 12, 3
    own, its = (torch.randn(n, 4 if one else 4 * classes, generator=g) for one in (own_agnostic, its_agnostic))
    labels = torch.randint(0, classes + 1, (n,), generator=g)  # the last is background
    goals = torch.randn(n, 4, generator=g)
    weights = (labels < classes).float()[:, None].expand(n, 4)
    total = 0.0
    for i, label in enumerate(labels.tolist()):
        if label < classes:
            slots = [one[i] if agnostic else one[i, 4 * label : 4 * label + 4]
                     for one, agnostic in ((own, own_agnostic), (its, its_agnostic))]  # fmt: skip
            total += bounded(slots[0], slots[1], goals[i], margin)
    own.requires_grad_(), its.requires_grad_()
    seen = {"roi.deltas": own, "roi.targets": (labels, torch.ones(n), goals, weights)}
    value = BoundedRegression("roi", margin=margin, nu=0.5)(seen, {"roi.deltas": its}, None)
    assert value.item() == pytest.approx(0.5 * total / n, rel=1e-5)  # all sampled boxes count, as in the stock loss
    value.backward()
    assert not own.grad[labels == classes].any()
    assert its.grad is None


@pytest.mark.parametrize("density", [0.0, 0.2])
def test_the_rpn_value_is_the_formula_anchor_by_anchor(density):
    g = torch.Generator().manual_seed(6)
    own, its = ([torch.randn(2, 4 * A, *grid, generator=g) for grid in GRIDS] for _ in range(2))
    goals = [torch.randn(2, h * w * A, 4, generator=g) for h, w in GRIDS]
    weights = [(torch.rand(2, h * w * A, 1, generator=g) < density).float().expand(-1, -1, 4) for h, w in GRIDS]
    total = 0.0
    for level, (h, w) in enumerate(GRIDS):
        for b, y, x, a in product(range(2), range(h), range(w), range(A)):
            k = (y * w + x) * A + a
            if weights[level][b, k, 0] > 0:
                deltas = [m[level][b, 4 * a : 4 * a + 4, y, x] for m in (own, its)]
                total += bounded(*deltas, goals[level][b, k], 0.1)
    seen = {"rpn.deltas": own, "rpn.targets": (None, None, goals, weights, 64)}
    value = BoundedRegression("rpn", margin=0.1, nu=1)(seen, {"rpn.deltas": its}, None)
    assert value.item() == pytest.approx(total / 64, rel=1e-5)
    assert (value > 0) == (density > 0)


def test_a_student_better_than_its_teacher_is_left_alone():
    goal = torch.zeros(1, 4)
    targets = (torch.zeros(1, dtype=torch.long), torch.ones(1), goal, torch.ones(1, 4))
    near, far = torch.full((1, 4), 0.5), torch.full((1, 4), 1.0)  # squared distances 1 and 4, the notes' oracle
    values = {
        margin: BoundedRegression("roi", margin=margin, nu=1)(
            {"roi.deltas": near, "roi.targets": targets}, {"roi.deltas": far}, None
        ).item()
        for margin in (0, 3, 3.5)
    }
    assert values == {0: 0, 3: 0, 3.5: 1}  # strictly more than the teacher's


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (dict(head="box"), r"head='box' is none of"),
        (dict(head="roi", margin=-0.1), "margin=-0.1; a number of at least 0"),
        (dict(head="roi", nu=-1), "nu=-1; a number of at least 0"),
    ],
)
def test_bad_arguments_are_named(config: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        BoundedRegression(**config)


def test_decoded_boxes_are_refused():
    from types import SimpleNamespace

    from det_distill.views.anatomy import Anatomy

    sides = [
        Anatomy(name, {}, None, SimpleNamespace(reg_decoded_bbox=decoded, bbox_coder=DeltaXYWHBBoxCoder()))
        for name, decoded in (("student", False), ("teacher", True))
    ]
    with pytest.raises(ValueError, match="the teacher's roi head has reg_decoded_bbox=True"):
        BoundedRegression("roi").wire(*sides)
