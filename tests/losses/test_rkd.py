"""Relations among items against sums done pair by pair and triple by triple."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses._geometry import distances, unit
from det_distill.losses.rkd import angle_relation, distance_relation

Loss = Callable[[Tensor, Tensor], Tensor]
EACH = pytest.mark.parametrize("loss_of", [distance_relation, angle_relation])
SEEDS = st.integers(0, 2**32)


def draw(n: int, d_s: int = 3, d_t: int = 4, seed: int = 7) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, d, generator=g, dtype=torch.float64) for d in (d_s, d_t))
    return student.requires_grad_(), teacher.requires_grad_()


def huber(gap: float) -> float:
    return gap**2 / 2 if abs(gap) < 1 else abs(gap) - 0.5


def pair_by_pair(student: Tensor, teacher: Tensor) -> float:
    """The published formula in plain numbers; shares no code with the loss."""
    pairs = list(itertools.permutations(range(len(student)), 2))
    relations = []
    for points in (student.tolist(), teacher.tolist()):
        apart = [math.dist(points[i], points[j]) for i, j in pairs]
        mean = sum(apart) / max(1, len(apart))
        relations.append([a / mean if mean else 0.0 for a in apart])
    return sum(huber(s - t) for s, t in zip(*relations, strict=True)) / max(1, len(student) ** 2)


def cosine(points: list[list[float]], i: int, j: int, k: int) -> float:
    one, two = ([b - a for a, b in zip(points[i], points[end], strict=True)] for end in (j, k))
    lengths = math.hypot(*one) * math.hypot(*two)
    return sum(a * b for a, b in zip(one, two, strict=True)) / lengths if lengths else 0.0


def triple_by_triple(student: Tensor, teacher: Tensor) -> float:
    s, t, n = student.tolist(), teacher.tolist(), len(student)
    gaps = [cosine(s, *ijk) - cosine(t, *ijk) for ijk in itertools.product(range(n), repeat=3)]
    return sum(map(huber, gaps)) / max(1, n**3) if n >= 3 else 0.0


SLOW = {distance_relation: pair_by_pair, angle_relation: triple_by_triple}


def test_distances_give_the_values_worked_out_by_hand():
    student, teacher = (torch.tensor([points], dtype=torch.float64).T for points in ([0.0, 1, 2], [0.0, 1, 3]))
    # teacher 1, 3, 2 over their mean 2: .5, 1.5, 1; student 1, 2, 1 over 4/3: .75, 1.5, .75
    loss = distance_relation(student, teacher).item()
    assert loss * 9 == pytest.approx(0.125)  # 2 * (.25^2 + 0 + .25^2) / 2
    assert loss == pytest.approx(0.0138889, abs=1e-7)  # over all nine entries, as the official code
    assert loss * 9 / 6 == pytest.approx(0.0208333, abs=1e-7)  # over pairs of two items


def test_angles_give_the_values_worked_out_by_hand():
    student = torch.tensor([[0.0, 0], [1, 0], [2, 0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    loss = angle_relation(student, teacher).item()
    # at 0: 1 against 0; at 1: -1 against .7071, at 2: 1 against .7071; each twice: 2 * (.5 + 1.2071 + .0429)
    assert loss * 27 == pytest.approx(3.5)
    assert loss == pytest.approx(0.1296296, abs=1e-7)


@EACH
@pytest.mark.parametrize("shape", [(0, 3, 4), (1, 3, 4), (2, 3, 4), (3, 1, 1), (4, 5, 2), (7, 2, 6)], ids=str)
def test_equals_the_formula_done_one_by_one(loss_of: Loss, shape: tuple[int, int, int]):
    student, teacher = draw(*shape)
    loss = loss_of(student, teacher)
    assert loss.item() == pytest.approx(SLOW[loss_of](student, teacher), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss_of(s, teacher), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@EACH
@settings(deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), n=st.integers(2, 6))
def test_a_student_that_is_the_teacher_turned_scaled_and_moved_costs_nothing(
    loss_of: Loss, seed: int, scale: float, n: int
):
    _, teacher = draw(n, seed=seed)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert loss_of(scale * teacher.detach() @ turn + 3, teacher).item() == pytest.approx(0, abs=1e-12)


@EACH
@settings(deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), order=st.permutations(range(5)))
def test_the_scale_of_either_net_and_the_order_of_items_have_no_say(
    loss_of: Loss, seed: int, scale: float, order: list[int]
):
    student, teacher = draw(5, seed=seed)
    loss = loss_of(student, teacher)
    torch.testing.assert_close(loss_of(scale * student, teacher), loss)
    torch.testing.assert_close(loss_of(student, teacher / scale), loss)
    torch.testing.assert_close(loss_of(student[order], teacher[order]), loss)


@EACH
@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_items_give_a_zero_that_trains(loss_of: Loss, n: int):
    student = torch.ones(n, 3, requires_grad=True)  # two that coincide in one net alone
    teacher = torch.ones(n, 4) if loss_of is distance_relation else torch.eye(n, 4)
    loss = loss_of(student, teacher)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros_like(student))


@EACH
@pytest.mark.parametrize("twins", [2, 3, 4])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_points_that_coincide_have_a_finite_loss_and_a_small_gradient(loss_of: Loss, twins: int, value: float):
    student, teacher = (points.detach().float() for points in draw(4))
    student[:twins] = value
    student.requires_grad_()
    loss = loss_of(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(SLOW[loss_of](student, teacher), rel=1e-5)
    assert student.grad.abs().max() < 10
    assert loss_of(teacher, student).isfinite()


def test_coinciding_pairs_count_in_the_mean_distance():
    student, teacher = torch.tensor([[0.0], [0], [3]]), torch.tensor([[0.0], [1], [2]])
    # student 0, 3, 3 over 2: 0, 1.5, 1.5; teacher 1, 2, 1 over 4/3: .75, 1.5, .75; 2 * (.75^2 + .75^2) / 2 / 9
    assert distance_relation(student, teacher).item() == pytest.approx(0.125)


@pytest.mark.parametrize("tiny", [1e-8, 1e-15, 1e-22, 1e-30])
@EACH
def test_points_that_nearly_coincide_have_a_finite_gradient(loss_of: Loss, tiny: float):
    _, teacher = draw(4)
    for points in (torch.eye(4), torch.eye(4) * torch.tensor([1.0, 1, 0, 0])):
        student = (tiny * points).requires_grad_()
        loss = loss_of(student, teacher.float())
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_computes_in_fp32_or_better_also_under_autocast(loss_of: Loss, dtype: torch.dtype):
    student, teacher = (100 * points.detach().to(dtype) for points in draw(6, 300, 200))  # squares overflow fp16
    student.requires_grad_()
    loss = loss_of(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss_of(student, teacher)
    cast.backward()
    assert loss.dtype == cast.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert student.grad.dtype == dtype
    assert cast.equal(loss)
    assert loss.item() == pytest.approx(SLOW[loss_of](student, teacher), rel=1e-4)


@EACH
@pytest.mark.parametrize(("student", "teacher"), [((4, 3), (1, 3)), ((4,), (4,)), ((4, 3, 1), (4, 3)), ((), ())])
def test_shapes_that_disagree_are_refused_and_named(loss_of: Loss, student, teacher):
    with pytest.raises(ValueError, match="of equal N") as error:
        loss_of(torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))


def test_unit_vectors_and_distances_are_what_they_are_called():
    assert unit(torch.tensor([[3.0, 4], [0, 0]])).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert distances(torch.tensor([[0.0, 0], [3, 4]])).tolist() == [[0, 5], [5, 0]]
    far = torch.tensor([[1e4, 0], [1e4, 1e-2]])
    assert distances(far)[0, 1].item() == pytest.approx(1e-2)  # a product of matrices would lose it
