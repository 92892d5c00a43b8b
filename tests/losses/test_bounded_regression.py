"""Bounded regression against the published rule, one box at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.bounded_regression import bounded_regression


def box_by_box(student: Tensor, teacher: Tensor, target: Tensor, margin: float, count: int) -> float:
    """The published rule in plain numbers; shares no code with the loss."""
    total = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), target.tolist(), strict=True):
        e_s, e_t = (sum((a - b) ** 2 for a, b in zip(deltas, y, strict=True)) for deltas in (s, t))
        if e_s + margin > e_t:
            total += e_s
    return total / max(1, count)


def draw(boxes: int) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher, target = torch.randn(3, boxes, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_(), target


@pytest.mark.parametrize(("margin", "loss"), [(0, 0), (3, 0), (3.5, 1)])
def test_gives_the_values_worked_out_by_hand(margin: float, loss: float):
    target = torch.tensor([[0.25, -1, 0.5, 2]], dtype=torch.float64)
    student = (target + torch.tensor([[0, 1, 0, 0]])).requires_grad_()  # e_s = 1
    teacher = target + torch.tensor([[0, 0, -2, 0]])  # e_t = 4
    found = bounded_regression(student, teacher, target, margin)
    found.backward()
    assert found.item() == loss
    assert student.grad.equal(2 * loss * (student.detach() - target))


@pytest.mark.parametrize("count", [None, 3, 64])
@pytest.mark.parametrize("margin", [0.0, 0.2, 5.0])
@pytest.mark.parametrize("boxes", [1, 9])
def test_equals_the_rule_box_by_box(boxes: int, margin: float, count: int | None):
    student, teacher, target = draw(boxes)
    loss = bounded_regression(student, teacher, target, margin, count)
    assert loss.item() == pytest.approx(box_by_box(student, teacher, target, margin, count or boxes), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: bounded_regression(s, teacher, target, margin, count), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_a_box_pays_in_full_or_not_at_all_and_never_for_missing_the_teacher():
    student, teacher, target = draw(40)
    bounded_regression(student, teacher, target).backward()
    full = 2 * (student.detach() - target) / 40
    pays = full.isclose(student.grad).all(dim=1)
    assert 0 < pays.sum() < 40
    assert not student.grad[~pays].any()


def test_a_student_equal_to_its_teacher_pays_only_with_a_margin():
    student, _, target = draw(9)
    assert bounded_regression(student, student, target).item() == 0
    full = (student - target).square().sum() / 9
    torch.testing.assert_close(bounded_regression(student, student, target, margin=1e-3), full)


@settings(deadline=None)
@given(margins=st.tuples(st.floats(-10, 10), st.floats(-10, 10)).map(sorted))
def test_a_wider_margin_never_costs_less(margins: list[float]):
    low, high = (bounded_regression(*draw(9), margin) for margin in margins)
    assert low <= high


@pytest.mark.parametrize("count", [None, 0, 64])
def test_without_positives_gives_a_zero_that_trains(count: int | None):
    student = torch.zeros(0, 4, requires_grad=True)
    loss = bounded_regression(student, torch.zeros(0, 4), torch.zeros(0, 4), count=count)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == (0, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_sums_in_fp32_or_better(dtype: torch.dtype):
    student, teacher, target = (300 * deltas.detach().to(dtype) for deltas in draw(9))  # squares overflow fp16
    student.requires_grad_()
    loss = bounded_regression(student, teacher, target)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert student.grad.dtype == dtype
    judge = bounded_regression(student.double(), teacher.double(), target.double())
    assert loss.item() == pytest.approx(judge.item(), rel=1e-5)
    assert bounded_regression(student, teacher, target.double()).dtype == loss.dtype  # the truth widens nothing


@pytest.mark.parametrize(
    ("student", "teacher", "target"),
    [((3, 4), (1, 4), (3, 4)), ((3, 4), (3, 4), (1, 4)), ((3, 4), (3, 4), (4,)), ((3, 1), (3, 1), (3, 1)), ((4,),) * 3],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher, target):
    with pytest.raises(ValueError, match="want equal") as error:
        bounded_regression(*map(torch.zeros, (student, teacher, target)))
    assert all(str(shape) in str(error.value) for shape in (student, teacher, target))


@pytest.mark.parametrize("count", [None, 64])
@pytest.mark.parametrize("on", [[0, 1, 1, 0, 1], [0] * 5, [1] * 5], ids=str)
def test_a_box_that_is_off_counts_but_never_costs(on: list[int], count: int | None):
    student, teacher, target = draw(5)
    marks = torch.tensor(on).bool()
    expected = box_by_box(student[marks], teacher[marks], target[marks], 0.2, count or 5)
    assert bounded_regression(student, teacher, target, 0.2, count, marks).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("on", [torch.ones(2).bool(), torch.ones(5), torch.tensor(True)], ids=str)
def test_other_marks_than_a_bool_a_box_are_refused(on: Tensor):
    with pytest.raises(ValueError, match="want bool on of 5 boxes"):
        bounded_regression(*draw(5), on=on)
