"""The margin a teacher drives, against sums done triplet by triplet."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.triplet import driven_margin, margins, triplets

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
SEEDS = st.integers(0, 2**32)


def draw(n: int = 6, d_s: int = 3, d_t: int = 4, seed: int = 7) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, d, generator=g, dtype=torch.float64) for d in (d_s, d_t))
    return student.requires_grad_(), teacher.requires_grad_()


def label_by_label(labels: list[int]) -> list[list[int]]:
    found = []
    for anchor, own in enumerate(labels):
        for positive, same in enumerate(labels):
            for negative, other in enumerate(labels):
                if positive != anchor and same == own and other != own:
                    found.append([anchor, positive, negative])
    return found


def triplet_by_triplet(student: Tensor, teacher: Tensor, rows: Tensor, least: float = 0.2, most: float = 0.5) -> float:
    """The published formula in plain numbers; shares no code with the loss."""

    def gaps(points: Tensor) -> list[float]:
        ones = [[x / (math.hypot(*p) or 1) for x in p] for p in points.tolist()]
        return [math.dist(ones[a], ones[p]) - math.dist(ones[a], ones[n]) for a, p, n in rows.tolist()]

    wide = [max(-gap, 0) for gap in gaps(teacher)]
    total = 0.0
    for gap, width in zip(gaps(student), wide, strict=True):
        margin = least + (most - least) * width / max(wide) if max(wide) else least
        total += max(gap + margin, 0)
    return total / max(1, len(rows))


def on_circle(*chords: float) -> Tensor:
    """An anchor on the unit circle, and points this far from it."""
    turns = torch.tensor([2 * math.asin(chord / 2) for chord in (0, *chords)], dtype=torch.float64)
    return torch.stack((turns.cos(), turns.sin()), dim=1)


def test_gives_the_values_worked_out_by_hand():
    gap = torch.tensor([0.5, 1.0], dtype=torch.float64)
    assert margins(gap, 0.2, 0.5).tolist() == pytest.approx([0.35, 0.5])  # .2 + .3 * .5 / 1
    rows = torch.tensor([[0, 1, 2], [0, 1, 3]])
    student, teacher = on_circle(0.6, 0.7, 1.9), on_circle(0.3, 0.8, 1.3)  # the teacher's gaps: .5 and 1
    loss = driven_margin(student, teacher, rows).item()
    assert 2 * loss == pytest.approx(0.25)  # .6 - .7 + .35, and max(.6 - 1.9 + .5, 0)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [3, 3], [1, 2, 3], [5], [], [0, 0, 1]], ids=str)
def test_triplets_are_those_found_label_by_label(labels: list[int]):
    found = triplets(torch.tensor(labels, dtype=torch.long))
    assert found.tolist() == label_by_label(labels)
    assert found.shape[1] == 3
    assert found.dtype == torch.int64


@pytest.mark.parametrize(("least", "most"), [(0.2, 0.5), (0.3, 0.3), (0.0, 2.0)])
@pytest.mark.parametrize("shape", [(6, 3, 4), (6, 2, 2), (6, 5, 1)], ids=str)
def test_equals_the_formula_triplet_by_triplet(shape: tuple[int, int, int], least: float, most: float):
    (student, teacher), rows = draw(*shape), triplets(LABELS)
    loss = driven_margin(student, teacher, rows, least, most)
    assert loss.item() == pytest.approx(triplet_by_triplet(student, teacher, rows, least, most), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: driven_margin(s, teacher, rows, least, most), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_with_one_margin_it_is_the_stock_triplet_loss():
    (student, teacher), rows = draw(), triplets(LABELS)
    ones = torch.nn.functional.normalize(student)
    stock = torch.nn.functional.triplet_margin_loss(*ones[rows].unbind(dim=1), margin=0.3, eps=0)
    torch.testing.assert_close(driven_margin(student, teacher, rows, 0.3, 0.3), stock)


@settings(deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), order=st.permutations(range(6)), shuffle=st.randoms())
def test_scale_turn_and_order_have_no_say(seed: int, scale: float, order: list[int], shuffle):
    (student, teacher), rows = draw(seed=seed), triplets(LABELS)
    loss = driven_margin(student, teacher, rows)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    torch.testing.assert_close(driven_margin(scale * student, teacher @ turn / scale, rows), loss)
    torch.testing.assert_close(driven_margin(student[order], teacher[order], triplets(LABELS[order])), loss)
    places = list(range(len(rows)))
    shuffle.shuffle(places)
    torch.testing.assert_close(driven_margin(student, teacher, rows[places]), loss)


@settings(deadline=None)
@given(gap=st.lists(st.floats(-2, 2, width=32), min_size=1), least=st.floats(0, 1), extra=st.floats(0, 1))
def test_margins_lie_between_least_and_most_and_follow_the_gap(gap: list[float], least: float, extra: float):
    found = margins(torch.tensor(gap, dtype=torch.float64).sort().values, least, least + extra)
    assert found.isfinite().all()
    assert (found.diff() >= 0).all()
    assert found.min() >= least - 1e-12
    assert found.max().item() == pytest.approx(least + extra if max(gap) > 0 else least, abs=1e-9)


def test_margins_carry_no_gradient_back():
    assert not margins(torch.ones(2, requires_grad=True), 0.2, 0.5).requires_grad


def test_the_margin_is_the_least_where_the_teacher_holds_no_negative_farther():
    assert margins(torch.tensor([-0.5, 0.0, -1]), 0.2, 0.5).tolist() == pytest.approx([0.2] * 3)
    student, _ = draw()
    rows, alike = triplets(LABELS), torch.ones(6, 2)
    assert driven_margin(student, alike, rows).equal(driven_margin(student, alike, rows, 0.2, 0.2))


@pytest.mark.parametrize("labels", [[1, 1, 1], [1, 2, 3], [7], []], ids=str)
def test_one_label_or_none_twice_gives_a_zero_that_trains(labels: list[int]):
    student = torch.ones(len(labels), 3, requires_grad=True)
    loss = driven_margin(student, torch.ones(len(labels), 4), triplets(torch.tensor(labels, dtype=torch.long)))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros_like(student))
    assert len(margins(torch.zeros(0), 0.2, 0.5)) == 0


def test_points_that_coincide_or_vanish_have_a_small_gradient():
    student = torch.tensor([[1.0, 2], [1, 2], [2, 4], [0, 0], [0, 0], [3, 1]], requires_grad=True)
    teacher, rows = draw()[1].float(), triplets(LABELS)
    loss = driven_margin(student, teacher, rows)
    loss.backward()
    assert loss.item() == pytest.approx(triplet_by_triplet(student, teacher, rows), rel=1e-5)
    assert student.grad.abs().max() < 10
    assert not student.grad[3:5].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_computes_in_fp32_or_better_also_under_autocast(dtype: torch.dtype):
    student, teacher = (300 * points.detach().to(dtype) for points in draw(6, 300, 200))  # squares overflow fp16
    student.requires_grad_()
    rows = triplets(LABELS)
    loss = driven_margin(student, teacher, rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = driven_margin(student, teacher, rows)
    cast.backward()
    assert loss.dtype == cast.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert student.grad.dtype == dtype
    assert cast.equal(loss)
    assert loss.item() == pytest.approx(triplet_by_triplet(student, teacher, rows), rel=1e-4)
    assert margins(torch.ones(1, dtype=dtype), 0.2, 0.5).dtype == loss.dtype


@pytest.mark.parametrize(
    ("student", "teacher", "rows"),
    [
        ((4, 3), (1, 3), (2, 3)),
        ((4,), (4,), (2, 3)),
        ((4, 3), (4, 3), (2, 2)),
        ((4, 3), (4, 3), (3,)),
        ((), (), (2, 3)),
    ],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher, rows):
    with pytest.raises(ValueError, match="of equal N") as error:
        driven_margin(torch.zeros(student), torch.zeros(teacher), torch.zeros(rows, dtype=torch.long))
    assert all(str(shape) in str(error.value) for shape in (student, teacher, rows))


def test_wrong_triplets_margins_and_labels_are_refused_and_named():
    student, teacher = draw()
    with pytest.raises(ValueError, match=r"want int64 triplets, got torch\.float32"):
        driven_margin(student, teacher, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"least=0\.5, most=0\.2"):
        driven_margin(student, teacher, triplets(LABELS), least=0.5, most=0.2)
    with pytest.raises(ValueError, match=r"want \(N,\) labels, got \(2, 2\)"):
        triplets(torch.zeros(2, 2, dtype=torch.long))


def test_one_triplet_is_divided_by_one():
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    assert driven_margin(torch.ones(3, 2), apart, torch.tensor([[0, 1, 2]]), most=0.5).item() == pytest.approx(0.5)
