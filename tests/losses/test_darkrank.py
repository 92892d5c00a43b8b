"""Rankings against likelihoods drawn one candidate at a time."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.darkrank import hard_ranking, nearest, similarity_scores, soft_ranking

Loss = Callable[[Tensor, Tensor], Tensor]
EACH = pytest.mark.parametrize("loss_of", [hard_ranking, soft_ranking])
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
SEEDS = st.integers(0, 2**32)


def draw(*shape: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def likelihood(scores: list[float], order: tuple[int, ...]) -> float:
    """Of drawing candidates in this order; shares no code with the losses."""
    chance = 1.0
    for place in range(len(order)):
        weights = [math.exp(scores[j]) for j in order[place:]]
        chance *= weights[0] / sum(weights)
    return chance


def query_by_query(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        total -= math.log(likelihood(s, tuple(sorted(range(len(t)), key=lambda j: -t[j]))))
    return total / max(1, len(student))


def order_by_order(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        for order in itertools.permutations(range(len(t))):
            total += likelihood(t, order) * math.log(likelihood(t, order) / likelihood(s, order))
    return total / max(1, len(student))


SLOW = {hard_ranking: query_by_query, soft_ranking: order_by_order}


@pytest.mark.parametrize(
    ("student", "teacher", "loss"),
    [
        ((-1, -2), (-1, -2), 0.313262),  # log(1 + e^-1)
        ((-1, -2), (-2, -1), 1.313262),  # log(1 + e)
        ((-1, -2, -3), (-1, -2, -3), 0.720868),
    ],
)
def test_hard_gives_the_values_worked_out_by_hand(student, teacher, loss: float):
    found = hard_ranking(*(torch.tensor([scores], dtype=torch.float64) for scores in (student, teacher)))
    assert found.item() == pytest.approx(loss, abs=1e-6)


def test_soft_gives_the_value_worked_out_by_hand_and_is_no_cross_entropy():
    student, teacher = torch.tensor([[-2.0, -1]]), torch.tensor([[-1.0, -2]])
    divergence = soft_ranking(student, teacher).item()
    assert divergence == pytest.approx(0.462117, abs=1e-6)
    chance = likelihood([-1, -2], (0, 1))
    entropy = -chance * math.log(chance) - (1 - chance) * math.log(1 - chance)
    assert divergence + entropy == pytest.approx(1.044320, abs=1e-6)  # what the official code returns


@EACH
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 3), (5, 4), (2, 5), (3, 0), (0, 4)], ids=str)
def test_equals_the_formula_done_one_by_one(loss_of: Loss, shape: tuple[int, int]):
    student, teacher = draw(*shape)
    loss = loss_of(student, teacher)
    assert loss.item() == pytest.approx(SLOW[loss_of](student, teacher), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss_of(s, teacher), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@EACH
@settings(deadline=None)
@given(seed=SEEDS, shift=st.floats(-50, 50), order=st.permutations(range(4)), queries=st.permutations(range(3)))
def test_a_shift_of_scores_and_the_order_of_candidates_and_queries_have_no_say(
    loss_of: Loss, seed: int, shift: float, order: list[int], queries: list[int]
):
    student, teacher = draw(3, 4, seed=seed)
    loss = loss_of(student, teacher)
    torch.testing.assert_close(loss_of(student + shift, teacher - shift), loss)
    torch.testing.assert_close(loss_of(student[:, order], teacher[:, order]), loss)
    torch.testing.assert_close(loss_of(student[queries], teacher[queries]), loss)


@settings(deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-2, 1e2))
def test_hard_reads_the_teachers_order_alone_and_soft_is_0_only_where_scores_agree(seed: int, scale: float):
    student, teacher = draw(3, 4, seed=seed)
    torch.testing.assert_close(hard_ranking(student, scale * teacher), hard_ranking(student, teacher))
    assert soft_ranking(student, student).item() == pytest.approx(0, abs=1e-12)
    assert soft_ranking(student, teacher) > 0


def test_the_likelihoods_of_all_orders_sum_to_one():
    scores, rest = torch.tensor([[-1.0, -2, -3]], dtype=torch.float64), range(3)
    orders = [torch.tensor([[-float(order.index(j)) for j in rest]]) for order in itertools.permutations(rest)]
    assert sum(math.exp(-hard_ranking(scores, order).item()) for order in orders) == pytest.approx(1)


def test_among_equals_the_first_comes_first():
    scores = -torch.arange(100.0)[None]  # few are kept in order even by a sort that is not stable
    assert hard_ranking(scores, torch.zeros(1, 100)).equal(hard_ranking(scores, scores))


@EACH
def test_stays_finite_at_extreme_scores(loss_of: Loss):
    student = torch.tensor([[-1e4, 0, 1e4, 0]], requires_grad=True)
    teacher = torch.tensor([[1e4, 0, -1e4, 0]])
    loss = loss_of(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(4e4, rel=1e-3)  # the student's -1e4, 0, 0 each drawn before its 1e4
    assert student.grad.isfinite().all()


@EACH
@DTYPES
def test_computes_in_fp32_or_better_also_under_autocast(loss_of: Loss, dtype: torch.dtype):
    student, teacher = (scores.detach().to(dtype) for scores in draw(300, 4))
    student.requires_grad_()
    loss = loss_of(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss_of(student, teacher)
    cast.backward()
    assert loss.dtype == cast.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert student.grad.dtype == dtype
    assert cast.equal(loss)
    assert loss.item() == pytest.approx(SLOW[loss_of](student, teacher), rel=1e-5)


@EACH
@pytest.mark.parametrize(("student", "teacher"), [((4, 3), (1, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((), ())], ids=str)
def test_shapes_that_disagree_are_refused_and_named(loss_of: Loss, student, teacher):
    with pytest.raises(ValueError, match="want equal") as error:
        loss_of(torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))


def test_soft_refuses_more_orders_than_it_can_list():
    with pytest.raises(ValueError, match="at most 5 candidates a query, got 6"):
        soft_ranking(torch.zeros(2, 6), torch.zeros(2, 6))


@pytest.mark.parametrize(("alpha", "beta"), [(3.0, 3.0), (2.0, 1.0), (0.5, 2.5)])
def test_scores_equal_the_formula_one_by_one(alpha: float, beta: float):
    points, _ = draw(6, 3)
    queries, candidates = torch.tensor([0, 4]), torch.tensor([[1, 2, 3], [5, 0, 2]])
    scores = similarity_scores(points, queries, candidates, alpha, beta)
    ones = [[x / math.hypot(*p) for x in p] for p in points.tolist()]
    for row, q in enumerate(queries.tolist()):
        for column, j in enumerate(candidates[row].tolist()):
            expected = -alpha * math.dist(ones[q], ones[j]) ** beta
            assert scores[row, column].item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: similarity_scores(x, queries, candidates, alpha, beta), points)


def test_scale_and_power_are_3_unless_told_otherwise():
    points, of = draw(4, 3)[0], (torch.tensor([0]), torch.tensor([[1, 2, 3]]))
    assert similarity_scores(points, *of).equal(similarity_scores(points, *of, alpha=3.0, beta=3.0))


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_scores_of_points_that_coincide_or_vanish_have_a_small_gradient(beta: float):
    points = torch.tensor([[1.0, 2], [1, 2], [2, 4], [0, 0], [0, 0], [3, 1]], requires_grad=True)
    scores = similarity_scores(points, torch.tensor([0, 3]), torch.tensor([[1, 2, 3], [4, 0, 5]]), beta=beta)
    hard_ranking(scores, -scores).backward()
    assert scores.isfinite().all()
    assert points.grad.abs().max() < 10
    assert not points.grad[3:5].any()


@DTYPES
def test_scores_are_fp32_or_better_also_under_autocast(dtype: torch.dtype):
    points = (300 * draw(6, 300)[0]).detach().to(dtype)  # squares overflow fp16
    queries, candidates = nearest(points, 3)
    scores = similarity_scores(points, queries, candidates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, others = similarity_scores(points, queries, candidates), nearest(points, 3)[1]
    assert cast.equal(scores)
    assert others.equal(candidates)
    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = similarity_scores(points.double(), queries, candidates)
    torch.testing.assert_close(scores.double(), exact, rtol=1e-5, atol=0)


@settings(deadline=None)
@given(seed=SEEDS, n=st.integers(3, 7), num=st.integers(1, 8), scale=st.floats(1e-3, 1e3))
def test_nearest_are_the_others_of_the_greatest_scores_best_first(seed: int, n: int, num: int, scale: float):
    points = draw(n, 3, seed=seed)[0] * scale
    queries, candidates = nearest(points, num)
    assert queries.tolist() == list(range(n))
    for q in queries.tolist():
        others = torch.tensor([[j for j in range(n) if j != q]])
        scores = similarity_scores(points, torch.tensor([q]), others)[0].tolist()
        ranked = sorted(zip(scores, others[0].tolist(), strict=True), reverse=True)
        assert candidates[q].tolist() == [j for _, j in ranked[:num]]


def test_a_point_that_coincides_with_the_query_is_its_nearest_and_the_query_never():
    _, candidates = nearest(torch.tensor([[1.0, 0], [1, 0], [2, 0], [0, 1]]), num=2)
    assert candidates.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_of_candidates_as_near_the_lower_index_comes_first():
    _, candidates = nearest(torch.ones(100, 2), num=99)
    assert candidates.tolist() == [[j for j in range(100) if j != q] for q in range(100)]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_items_make_no_queries_and_a_zero_that_trains(n: int):
    points = torch.ones(n, 3, requires_grad=True)
    queries, candidates = nearest(points, num=4)
    assert queries.shape == (0,)
    assert candidates.shape == (0, max(0, n - 1))
    assert queries.dtype == candidates.dtype == torch.int64
    scores = similarity_scores(points, queries, candidates)
    loss = hard_ranking(scores, scores) + soft_ranking(scores, scores)
    loss.backward()
    assert loss.item() == 0
    assert points.grad.equal(torch.zeros_like(points))


@pytest.mark.parametrize(
    ("points", "queries", "candidates"), [((4,), (2,), (2, 3)), ((4, 2), (2,), (3, 3)), ((4, 2), (2,), (2,))], ids=str
)
def test_scores_of_disagreeing_shapes_are_refused_and_named(points, queries, candidates):
    with pytest.raises(ValueError, match="want") as error:
        similarity_scores(torch.zeros(points), *(torch.zeros(s, dtype=torch.long) for s in (queries, candidates)))
    assert all(str(shape) in str(error.value) for shape in (points, queries, candidates))


def test_a_power_below_one_and_no_candidates_are_refused():
    with pytest.raises(ValueError, match=r"want beta >= 1, got 0\.5"):
        similarity_scores(torch.zeros(2, 2), torch.tensor([0]), torch.tensor([[1]]), beta=0.5)
    with pytest.raises(ValueError, match="num=0"):
        nearest(torch.zeros(4, 2), num=0)
