"""Several teachers, specialists among them, against sums done one box and one class at a time."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.ensembles import mean_of_teachers, softened
from det_distill.losses.hinton import soft_kl
from det_distill.losses.teachers import of_sigmoids, of_softmax

Shared = list[tuple[int, int]]
Loss = Callable[..., Tensor]
MEANS = pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
EACH = pytest.mark.parametrize("loss", [of_softmax, of_sigmoids])
# The student has classes 0 to 2 and a background, 3.
FEW: Shared = [(1, 0), (0, 2)]  # of a specialist with three classes and a background
ONE: Shared = [(0, 1)]  # of a specialist with one class and a background
CASES = pytest.mark.parametrize(
    ("general", "special"),
    [(1, []), (3, []), (0, [FEW]), (0, [FEW, ONE]), (1, [FEW]), (2, [FEW, ONE])],
    ids=["one", "three", "a specialist alone", "specialists alone", "one and a specialist", "two of each"],
)


def draw(*shape: int, seed: int) -> Tensor:
    logits = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.requires_grad_()


def drawn(count: int, general: int, special: Sequence[Shared], seed: int = 0) -> tuple[Tensor, list[Tensor], list]:
    known = [draw(count, 4, seed=seed + 1 + index) for index in range(general)]
    experts = [(draw(count, 4 if shared is FEW else 2, seed=seed + 9 - len(shared)), shared) for shared in special]
    return draw(count, 4, seed=seed), known, experts


def softmax(row: Sequence[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def sigmoid(row: Sequence[float], temperature: float) -> list[float]:
    return [1 / (1 + math.exp(-z / temperature)) for z in row]


def divergence(target: Sequence[float], student: Sequence[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(target, student, strict=True))


def means(rows: list[list[float]], mean: str) -> list[float]:
    if mean == "arithmetic":
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return [math.prod(column) ** (1 / len(rows)) for column in zip(*rows, strict=True)]


def box_by_box(student: Tensor, general: list[Tensor], special: list, temperature: float, mean: str) -> float:
    """Of classes that exclude each other; shares no code with the loss."""
    total = 0.0
    for n, logits in enumerate(student.tolist()):
        q, top = softmax(logits, temperature), None
        if general:
            target = means([softmax(its[n].tolist(), temperature) for its in general], mean)
            target = [p / sum(target) for p in target]
            total, top = total + divergence(target, q), target.index(max(target))
        for its, shared in special:
            if top is not None and top not in [own for _, own in shared]:
                continue
            p = softmax(its[n].tolist(), temperature)
            known = [(p[one], q[own]) for one, own in shared]
            rest = (1 - sum(one for one, _ in known), 1 - sum(own for _, own in known))
            total += divergence(*zip(*known, rest, strict=True))
    return temperature**2 * total / max(1, len(student))


def yes_or_no(student: Tensor, general: list[Tensor], special: list, temperature: float, mean: str) -> float:
    """Of classes that are a Bernoulli each."""
    total = 0.0
    for n, logits in enumerate(student.tolist()):
        q = sigmoid(logits, temperature)
        asked = []
        if general:
            given_by = [sigmoid(its[n].tolist(), temperature) for its in general]
            yes, no = means(given_by, mean), means([[1 - p for p in row] for row in given_by], mean)
            asked += [(a / (a + b), q[own]) for own, (a, b) in enumerate(zip(yes, no, strict=True))]
        for its, shared in special:
            p = sigmoid(its[n].tolist(), temperature)
            asked += [(p[one], q[own]) for one, own in shared]
        total += sum(divergence((p, 1 - p), (s, 1 - s)) for p, s in asked)
    return temperature**2 * total / max(1, len(student))


@MEANS
@CASES
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("loss", "oracle"), [(of_softmax, box_by_box), (of_sigmoids, yes_or_no)])
def test_equals_the_sum_box_by_box(
    loss: Loss, oracle: Callable[..., float], temperature: float, general: int, special: list, mean: str
):
    student, known, experts = drawn(6, general, special)
    value = loss(student, known, experts, temperature, mean)
    assert value.item() == pytest.approx(oracle(student, known, experts, temperature, mean), rel=1e-9)
    assert torch.autograd.gradcheck(lambda s: loss(s, known, experts, temperature, mean), student)
    teachers = [*known, *(its for its, _ in experts)]
    assert set(torch.autograd.grad(value, teachers, allow_unused=True)) == {None}


@pytest.mark.parametrize(("temperature", "gradient"), [(2.0, 0.462117), (20.0, 0.499584)])
def test_gives_the_values_worked_out_by_hand(temperature: float, gradient: float):
    student = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    loss = of_softmax(student, [torch.tensor([[2.0, 0.0]], dtype=torch.float64)], [], temperature)
    loss.backward()
    assert student.grad[0].tolist() == pytest.approx((-gradient, gradient), abs=1e-6)
    if temperature == 2:
        assert loss.item() == pytest.approx(0.443776, abs=1e-6)


@pytest.mark.parametrize(
    ("mean", "target", "expected"),
    # p log p / 0.5, summed: 0.6 log 1.2 + 0.4 log 0.8 and 0.620204 log 1.240408 + 0.379796 log 0.759592
    [("arithmetic", (0.6, 0.4), 0.020136), ("geometric", (0.620204, 0.379796), 0.029183)],
)
def test_two_teachers_make_one_target(mean: str, target: tuple[float, float], expected: float):
    student = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    teachers = [torch.tensor([p], dtype=torch.float64).log() for p in ((0.8, 0.2), (0.4, 0.6))]
    loss = of_softmax(student, teachers, [], 1.0, mean)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert student.grad[0].tolist() == pytest.approx([0.5 - p for p in target], abs=1e-6)  # P - q


@MEANS
def test_a_specialist_is_asked_where_the_averaged_teachers_see_one_of_its_classes(mean: str):
    """The first teacher alone would ask it about box 0 and not about box 1; background asks nobody."""
    student = draw(4, 4, seed=0)
    sure = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.1, 0.5, 0.3, 0.1], [0.1, 0.1, 0.1, 0.7], [0.9, 0, 0.1, 0]]))
    torn = torch.log(torch.tensor([[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7], [0.8, 0, 0.2, 0]]))
    expert = draw(4, 4, seed=5)
    (gradient,) = torch.autograd.grad(of_softmax(student, [sure, torn], [(expert, FEW)], 1.0, mean), student)
    alone = soft_kl(student, mean_of_teachers([softened(its, 1.0) for its in (sure, torn)], mean), 1.0)
    moved = (gradient - torch.autograd.grad(alone, student)[0]).abs().amax(dim=1) > 1e-9
    # Averaged tops: (0.3, 0.5, ..) is 1, not of FEW's 0 and 2; (.., 0.3, 0.5, ..) is 2; background; 0.
    assert moved.tolist() == [False, True, False, True]


def test_a_specialist_that_knows_all_classes_is_a_teacher_of_all_classes():
    student, teacher = draw(5, 4, seed=0), draw(5, 4, seed=1)
    order = [2, 0, 1]  # the specialist's class of each of the student's; background is its dustbin
    shared = [(its, own) for own, its in enumerate(order)]
    expected = soft_kl(student, softened(teacher[:, [*order, 3]], 3.0), 3.0)
    torch.testing.assert_close(of_softmax(student, [], [(teacher, shared)], 3.0), expected)
    sigmoids = of_sigmoids(student, [teacher[:, [*order, 3]]], [], 3.0)
    torch.testing.assert_close(of_sigmoids(student, [], [(teacher, [*shared, (3, 3)])], 3.0), sigmoids)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), temperature=st.floats(0.5, 20), mean=st.sampled_from(["arithmetic", "geometric"]))
def test_equal_teachers_are_one_their_order_does_not_matter_and_none_is_below_zero(
    seed: int, temperature: float, mean: str
):
    for loss in (of_softmax, of_sigmoids):
        student, known, experts = drawn(3, 2, [FEW, ONE], seed)
        value = loss(student, known, experts, temperature, mean)
        assert value >= 0
        torch.testing.assert_close(loss(student, known[::-1], experts[::-1], temperature, mean), value)
        alike = loss(student, [known[0]] * 3, experts, temperature, mean)
        torch.testing.assert_close(alike, loss(student, known[:1], experts, temperature, mean))
        assert loss(known[0], known[:1], [], temperature, mean).item() == pytest.approx(0, abs=1e-10)


@EACH
@CASES
def test_no_boxes_give_a_zero_that_trains(loss: Loss, general: int, special: list):
    student, known, experts = drawn(0, general, special)
    value = loss(student, known, experts, 4.0)
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == student.shape


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_computes_in_fp32_or_better(loss: Loss, dtype: torch.dtype):
    student, known, experts = drawn(200, 2, [FEW, ONE])
    student, known = student.detach().to(dtype), [its.detach().to(dtype) for its in known]
    experts = [(its.detach().to(dtype), shared) for its, shared in experts]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, known, experts, 4.0)
    assert value.dtype == torch.float32
    full = loss(student.float(), [its.float() for its in known], [(its.float(), s) for its, s in experts], 4.0)
    assert value.item() == full.item()


@EACH
def test_teachers_of_other_boxes_or_classes_are_refused(loss: Loss):
    student = torch.zeros(4, 3)
    for general, special in (([torch.zeros(4, 4)], []), ([torch.zeros(1, 3)], []), ([], [(torch.zeros(3, 2), ONE)])):
        with pytest.raises(ValueError, match="want "):
            loss(student, general, special, 2.0)
