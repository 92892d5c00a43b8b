"""Means of teachers against products and powers taken one number at a time."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.ensembles import (
    mean_of_sigmoids,
    mean_of_teachers,
    softened,
    softened_sigmoids,
    with_dustbin,
)

Mean = Callable[[Sequence[Tensor], str], Tensor]
MEANS = pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
EACH = pytest.mark.parametrize("mean_of", [mean_of_teachers, mean_of_sigmoids])
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def draw(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distributions(*shape: int, seed: int = 7) -> list[Tensor]:
    return list(draw(*shape, seed=seed).softmax(dim=-1))


def number_by_number(teachers: list[Tensor], mean: str, outcomes: str) -> list[list[float]]:
    """The definition in plain numbers; shares no code with the means."""
    count, means = len(teachers), []
    for rows in zip(*(t.tolist() for t in teachers), strict=True):
        row = []
        for given_by in zip(*rows, strict=True):
            if mean == "arithmetic":
                row.append(sum(given_by) / count)
            else:
                yes = math.prod(given_by) ** (1 / count)
                no = math.prod(1 - p for p in given_by) ** (1 / count)
                row.append(yes if outcomes == "classes" else yes / (yes + no))
        means.append([p / sum(row) for p in row] if mean == "geometric" and outcomes == "classes" else row)
    return means


def test_gives_the_means_worked_out_by_hand():
    teachers = [torch.tensor([[0.8, 0.2]]), torch.tensor([[0.4, 0.6]])]
    assert mean_of_teachers(teachers, "arithmetic").tolist()[0] == pytest.approx((0.6, 0.4), abs=1e-6)
    geometric = (0.620204, 0.379796)  # sqrt(0.32) : sqrt(0.12)
    assert mean_of_teachers(teachers, "geometric").tolist()[0] == pytest.approx(geometric, abs=1e-6)
    assert mean_of_sigmoids(teachers, "geometric").tolist()[0] == pytest.approx(geometric, abs=1e-6)  # 0.2 * 0.6 = 0.12


@pytest.mark.parametrize(("temperature", "first"), [(1.0, 0.880797), (2.0, 0.731059), (1e9, 0.5)])
def test_temperature_divides_the_logits(temperature: float, first: float):
    logits = torch.tensor([[2.0, 0.0]])  # 1 / (1 + exp(-2 / T))
    assert softened(logits, temperature).tolist()[0] == pytest.approx((first, 1 - first), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 4)], ids=str)
def test_sigmoids_are_softened_number_by_number(shape: tuple[int, int], temperature: float):
    logits = 5 * draw(*shape)
    expected = [[1 / (1 + math.exp(-z / temperature)) for z in row] for row in logits.tolist()]
    found = softened_sigmoids(logits, temperature)
    assert found.shape == shape
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64).reshape(shape), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kept", [[0], [2, 0], [1, 2, 3], [3, 2, 1, 0]], ids=str)
def test_a_dustbin_holds_what_is_not_kept_number_by_number(kept: list[int]):
    rows = draw(5, 4).softmax(dim=1)
    expected = [[row[k] for k in kept] + [sum(p for c, p in enumerate(row) if c not in kept)] for row in rows.tolist()]
    torch.testing.assert_close(with_dustbin(rows, kept), torch.tensor(expected, dtype=torch.float64))
    assert with_dustbin(rows[:0], kept).shape == (0, len(kept) + 1)


@MEANS
@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 5, 4), (3, 2, 1), (5, 4, 3)], ids=str)
def test_equals_the_definition_number_by_number(shape: tuple[int, int, int], mean: str):
    teachers = distributions(*shape)
    expected = torch.tensor(number_by_number(teachers, mean, "classes"), dtype=torch.float64)
    torch.testing.assert_close(mean_of_teachers(teachers, mean), expected, rtol=1e-12, atol=0)
    sigmoids = list(draw(*shape).sigmoid())
    expected = torch.tensor(number_by_number(sigmoids, mean, "yes or no"), dtype=torch.float64)
    torch.testing.assert_close(mean_of_sigmoids(sigmoids, mean), expected, rtol=1e-12, atol=0)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4), mean=st.sampled_from(["arithmetic", "geometric"]))
def test_a_mean_is_a_distribution_whatever_the_order_of_teachers(seed: int, count: int, mean: str):
    teachers = distributions(count, 3, 4, seed=seed)
    found = mean_of_teachers(teachers, mean)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(mean_of_teachers(teachers[::-1], mean), found)
    shuffled = [t[:, [2, 0, 3, 1]] for t in teachers]
    torch.testing.assert_close(mean_of_teachers(shuffled, mean), found[:, [2, 0, 3, 1]])


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), mean=st.sampled_from(["arithmetic", "geometric"]))
def test_yes_and_no_are_alike(seed: int, mean: str):
    teachers = list(draw(3, 2, 4, seed=seed).sigmoid())
    torch.testing.assert_close(mean_of_sigmoids([1 - t for t in teachers], mean), 1 - mean_of_sigmoids(teachers, mean))


@EACH
@MEANS
def test_one_teacher_comes_back_to_the_bit(mean_of: Mean, mean: str):
    (teacher,) = (p.float() for p in distributions(1, 5, 4))
    assert mean_of([teacher], mean).equal(teacher)


@EACH
@MEANS
@pytest.mark.parametrize("count", [2, 3, 7])
def test_equal_teachers_are_one(mean_of: Mean, mean: str, count: int):
    teacher = softened(draw(5, 4).float() * 4, 2.0)
    torch.testing.assert_close(mean_of([teacher] * count, mean), teacher, rtol=0, atol=1e-6)


def test_two_classes_are_a_sigmoid():
    logits = draw(3, 5)
    two = [softened(torch.stack((z, torch.zeros_like(z)), dim=1), 1.0) for z in logits]
    one = [z.sigmoid()[:, None] for z in logits]
    for mean in ("arithmetic", "geometric"):
        torch.testing.assert_close(mean_of_teachers(two, mean)[:, :1], mean_of_sigmoids(one, mean))


def test_the_geometric_mean_of_softened_teachers_softens_the_mean_of_their_logits():
    logits = draw(3, 5, 4)
    found = mean_of_teachers([softened(z, 4.0) for z in logits], "geometric")
    torch.testing.assert_close(found, softened(logits.mean(dim=0), 4.0))


@EACH
def test_sure_teachers_who_contradict_each_other_have_a_geometric_mean(mean_of: Mean):
    sure = torch.tensor([[1.0, 0.0]])
    found = mean_of([sure, sure.flip(1)], "geometric")
    assert found.isfinite().all()
    torch.testing.assert_close(mean_of([sure, sure], "geometric"), sure, rtol=0, atol=1e-6)
    torch.testing.assert_close(mean_of_teachers([sure, sure.flip(1)], "geometric"), torch.tensor([[0.5, 0.5]]))


def test_a_sure_no_counts_as_the_least_number_and_a_sure_yes_as_the_greatest_below_one():
    even, sure = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.0, 1.0]])
    no, yes = mean_of_sigmoids([even, sure], "geometric")[0].tolist()
    assert no == pytest.approx(2.0**-63, rel=1e-4, abs=0)  # odds 1 : 1 and fp32's least, 1 : 2^126
    assert yes == pytest.approx(1 / (1 + 2.0**-12), abs=2e-7)  # 1 - 2^-24 has odds 2^24 : 1


@EACH
@MEANS
def test_no_boxes_and_a_single_class_are_no_special_cases(mean_of: Mean, mean: str):
    for shape in ((0, 3), (0, 1), (1, 1)):
        teacher = softened(torch.zeros(shape), 2.0)
        assert teacher.shape == shape
        assert mean_of([teacher, teacher], mean).shape == shape
    assert softened(torch.full((1, 1), 9.0), 2.0).item() == 1


@HALVES
def test_computes_in_fp32_or_better(dtype: torch.dtype):
    logits = [z.to(dtype) for z in draw(3, 5, 4)]
    for soft in (softened, softened_sigmoids):
        assert soft(logits[0].double(), 2.0).dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            found = soft(logits[0], 2.0)
        assert found.dtype == torch.float32
        assert found.equal(soft(logits[0].float(), 2.0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = [softened(z, 2.0) for z in logits]
    for z, found in zip(logits, inside, strict=True):
        assert found.dtype == torch.float32
        assert found.equal(softened(z.float(), 2.0))
    for mean_of, mean in itertools.product((mean_of_teachers, mean_of_sigmoids), ("arithmetic", "geometric")):
        halves = [p.to(dtype) for p in inside]
        with torch.autocast("cpu", torch.bfloat16):
            found = mean_of(halves, mean)
        assert found.dtype == torch.float32
        assert found.equal(mean_of([p.float() for p in halves], mean))


def test_no_gradient_goes_back_to_a_teacher():
    logits = draw(5, 4).requires_grad_()
    probabilities = logits.softmax(dim=1)
    assert not softened(logits, 2.0).requires_grad
    assert not softened_sigmoids(logits, 2.0).requires_grad
    for mean_of, mean in itertools.product((mean_of_teachers, mean_of_sigmoids), ("arithmetic", "geometric")):
        assert not mean_of([probabilities, probabilities], mean).requires_grad
        assert not mean_of([probabilities], mean).requires_grad


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)], ids=str)
def test_logits_that_are_no_matrix_are_refused_and_named(shape: tuple[int, ...]):
    for soft, wanted in ((softened, r"\(N, K \+ 1\)"), (softened_sigmoids, r"\(N, K\)")):
        with pytest.raises(ValueError, match=f"want {wanted} logits") as error:
            soft(torch.zeros(shape), 2.0)
        assert str(shape) in str(error.value)


@EACH
@pytest.mark.parametrize("shapes", [[], [(4,)], [(4, 3), (1, 3)], [(4, 3), (4, 1)], [(4, 3), (4, 3), (3,)]], ids=str)
def test_teachers_of_disagreeing_shapes_are_refused_and_named(mean_of: Mean, shapes: list[tuple[int, ...]]):
    with pytest.raises(ValueError, match="want equal") as error:
        mean_of([torch.zeros(shape) for shape in shapes], "arithmetic")
    assert str(shapes) in str(error.value)


@EACH
def test_an_unknown_mean_is_refused_and_named(mean_of: Mean):
    with pytest.raises(ValueError, match="mean='harmonic' is none of 'arithmetic', 'geometric'"):
        mean_of([torch.zeros(4, 3)], "harmonic")
