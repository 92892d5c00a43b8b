"""Relations of boxes' embeddings as terms: the notes' oracles, and what there is to compare of too few boxes."""

from typing import Any

import pytest
import torch
from shown import batch, wired
from torch import Tensor

from det_distill.terms.relation.darkrank import DarkRank
from det_distill.terms.relation.rkd import AngleRelation, DistanceRelation
from det_distill.terms.relation.triplet import TripletMargin

TAP = "roi.embedding"
TERMS = {
    "distances": DistanceRelation(weight=1),
    "angles": AngleRelation(weight=1),
    "hard": DarkRank(weight=1, kind="hard"),
    "soft": DarkRank(weight=1, kind="soft"),
    "triplets": TripletMargin(weight=1),
}


class Head:
    num_classes = 9


def value(term: Any, own: Tensor, its: Tensor, labels: list[int]) -> Tensor:
    """Of positive boxes of one image."""
    term = wired(term, {TAP: tuple(own.shape[1:])}, {TAP: tuple(its.shape[1:])}, head=Head)
    student = {TAP: own, "roi.rois": torch.zeros(len(own), 5), "roi.targets": (torch.tensor(labels).long(),)}
    return term(student, {TAP: its}, batch([[]]))


def test_distances_by_the_notes_oracle():
    # Over their means 4/3 and 2: student (0.75, 1.5, 0.75), teacher (0.5, 1.5, 1); Huber sums to 0.125 over 9 entries.
    own, its = torch.tensor([[0.0], [1], [2]]), torch.tensor([[0.0], [1], [3]])
    assert value(TERMS["distances"], own, its, [0, 1, 2]).item() == pytest.approx(0.125 / 9)


def test_angles_by_the_notes_oracle():
    own, its = torch.tensor([[0.0, 0], [1, 0], [2, 0]]), torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    assert value(TERMS["angles"], own, its, [0, 1, 2]).item() == pytest.approx(3.5 / 27)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_student_that_ranks_otherwise_pays_more(kind: str):
    angle = torch.tensor([0.0, 0.1, 0.25, 0.45])
    its, other = (torch.stack((at.cos(), at.sin()), dim=1) for at in (angle, angle[[0, 2, 1, 3]]))
    alike, unlike = (value(TERMS[kind], own, its, [0] * 4).item() for own in (5 * its, other))
    assert alike < unlike
    assert alike == pytest.approx(0, abs=1e-6) or kind == "hard"  # a likelihood, which is never 1


def test_the_triplet_s_margin_is_the_teacher_s_by_hand():
    # On the unit circle: a, p at 0 and n at 90 degrees. Teacher: d(a, n) - d(a, p) = sqrt(2) for both anchors, the
    # largest, so the margin is 0.5. Student: p at 90, n at 0: for a, sqrt(2) - 0 + 0.5; for p, sqrt(2) - sqrt(2) + 0.5.
    its, own = torch.tensor([[1.0, 0], [2, 0], [0, 3]]), torch.tensor([[1.0, 0], [0, 1], [4, 0]])
    assert value(TERMS["triplets"], own, its, [5, 5, 7]).item() == pytest.approx((2**0.5 + 0.5 + 0.5) / 2)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_boxes_are_a_zero_that_trains(name: str, count: int):
    own = torch.rand(count, 3).requires_grad_()
    found = value(TERMS[name], own, torch.rand(count, 4), [0] * count)
    assert found.item() == 0
    found.backward()
    assert own.grad.isfinite().all()


def test_one_class_has_no_triplet_and_a_zero_that_trains():
    own = torch.rand(6, 3).requires_grad_()
    found = value(TERMS["triplets"], own, torch.rand(6, 4), [2] * 6)
    assert found.item() == 0
    found.backward()


@pytest.mark.parametrize("name", ["distances", "angles", "hard", "soft"])
def test_one_class_has_relations_all_the_same(name: str):
    g = torch.Generator().manual_seed(0)
    own, its = (torch.randn(6, d, generator=g) for d in (3, 4))
    assert value(TERMS[name], own, its, [2] * 6) > 0


@pytest.mark.parametrize(
    ("cls", "config", "said"),
    [
        (DarkRank, dict(kind="medium"), "kind='medium' is none of 'hard', 'soft'"),
        (DarkRank, dict(candidates=1), "candidates=1; a number of at least 2"),
        (DarkRank, dict(kind="soft", candidates=6), r"candidates=6 have 6! orders; kind='soft' takes at most 5"),
        (DarkRank, dict(beta=0.5), "beta=0.5; a number of at least 1"),
        (TripletMargin, dict(least=0.6), "least=0.6, most=0.5; 0 <= least <= most"),
    ],
)
def test_what_cannot_be_computed_is_refused_at_once(cls: Any, config: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        cls(weight=1, **config)
