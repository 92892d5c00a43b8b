"""Weighted soft labels against sums done one logit at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.soft_labels import weighted_soft_binary, weighted_soft_cross_entropy

TEACHER = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)  # probabilities, background first
WEIGHTS = torch.tensor([1.5, 1, 1], dtype=torch.float64)
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)


def draw(*shape: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def class_by_class(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> float:
    """The published formula in plain numbers; shares no code with the loss."""
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        e_s, e_t = ([math.exp(z / temperature) for z in logits] for logits in (z_s, z_t))
        for s, t, w in zip(e_s, e_t, weights.tolist(), strict=True):
            total -= w * t / sum(e_t) * math.log(s / sum(e_s))
    return total / max(1, len(student))


def anchor_by_anchor(student: Tensor, teacher: Tensor, weight: float, temperature: float) -> float:
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        s, t = (1 / (1 + math.exp(-z / temperature)) for z in (z_s, z_t))
        total -= t * math.log(s) + weight * (1 - t) * math.log(1 - s)
    return total / max(1, len(student))


@pytest.mark.parametrize(
    ("student", "loss", "gradient"),
    [
        ((0.5, 0.3, 0.2), 1.129543, (-0.375, 0.205, 0.17)),
        ((0.7, 0.2, 0.1), 0.926655, (-0.105, 0.07, 0.035)),  # equal to the teacher, and yet not at the least
        ((1.05 / 1.35, 0.2 / 1.35, 0.1 / 1.35), 0.906058, (0, 0, 0)),  # w * P_t, scaled to sum to 1
    ],
    ids=["elsewhere", "at the teacher", "at the optimum"],
)
def test_gives_the_values_worked_out_by_hand(student: tuple[float, ...], loss: float, gradient: tuple[float, ...]):
    logits = torch.tensor([student], dtype=torch.float64).log().requires_grad_()
    found = weighted_soft_cross_entropy(logits, TEACHER.log(), WEIGHTS)
    found.backward()
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert logits.grad[0].tolist() == pytest.approx(gradient, abs=1e-9)


def test_objectness_gives_the_value_worked_out_by_hand():
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    loss = weighted_soft_binary(logit, torch.zeros(1, dtype=torch.float64), background_weight=1.5)
    loss.backward()
    assert loss.item() == pytest.approx(0.866434, abs=1e-6)  # (0.5 + 1.5 * 0.5) * log 2
    assert logit.grad.item() == pytest.approx(0.125)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(1, 2), (5, 4)], ids=str)
def test_equals_the_formula_class_by_class(shape: tuple[int, int], temperature: float):
    student, teacher = draw(*shape)
    weights = torch.linspace(1.5, 0.5, shape[1], dtype=torch.float64)
    loss = weighted_soft_cross_entropy(student, teacher, weights, temperature)
    assert loss.item() == pytest.approx(class_by_class(student, teacher, weights, temperature), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: weighted_soft_cross_entropy(s, teacher, weights, temperature), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_objectness_equals_the_formula_anchor_by_anchor(temperature: float):
    student, teacher = draw(6)
    loss = weighted_soft_binary(student, teacher, 1.5, temperature)
    assert loss.item() == pytest.approx(anchor_by_anchor(student, teacher, 1.5, temperature), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: weighted_soft_binary(s, teacher, 1.5, temperature), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_unweighted_it_is_the_stock_cross_entropy_with_soft_targets():
    student, teacher = draw(5, 4)
    stock = torch.nn.functional.cross_entropy(student, teacher.softmax(dim=1))
    torch.testing.assert_close(weighted_soft_cross_entropy(student, teacher, torch.ones(4)), stock)


def test_objectness_is_the_two_class_loss_with_one_logit_at_zero():
    student, teacher = draw(6)
    both = [torch.stack((torch.zeros_like(z), z), dim=1) for z in (student, teacher)]  # background first
    two_classes = weighted_soft_cross_entropy(*both, WEIGHTS[:2], temperature=2.0)
    torch.testing.assert_close(weighted_soft_binary(student, teacher, 1.5, temperature=2.0), two_classes)


def test_temperature_divides_the_logits_and_nothing_multiplies_the_loss():
    student, teacher = draw(5, 3)
    hot = weighted_soft_cross_entropy(3 * student, 3 * teacher, WEIGHTS, temperature=3.0)
    torch.testing.assert_close(hot, weighted_soft_cross_entropy(student, teacher, WEIGHTS))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-3, 10))
def test_no_student_does_better_than_the_weighted_teacher(seed: int, scale: float):
    nudge, teacher = draw(4, 3, seed=seed)
    best = teacher.detach() + WEIGHTS.log()
    least = weighted_soft_cross_entropy(best, teacher, WEIGHTS)
    assert weighted_soft_cross_entropy(best + scale * nudge, teacher, WEIGHTS) >= least - 1e-12


@DTYPES
@pytest.mark.parametrize(("z", "t", "loss"), [(200, 200, 0), (-200, -200, 0), (-200, 200, 200), (200, -200, 300)])
def test_stays_finite_at_extreme_logits(z: float, t: float, loss: float, dtype: torch.dtype):
    student = torch.tensor([z], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([t], dtype=dtype)
    found = weighted_soft_binary(student, teacher, background_weight=1.5)
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert student.grad.isfinite().all()
    both = [torch.stack((-logit / 2, logit / 2), dim=1) for logit in (student, teacher)]
    assert weighted_soft_cross_entropy(*both, WEIGHTS[:2]).item() == pytest.approx(loss)


def test_without_boxes_gives_a_zero_that_trains():
    for loss, student in (
        (weighted_soft_cross_entropy, torch.zeros(0, 3, requires_grad=True)),
        (weighted_soft_binary, torch.zeros(0, requires_grad=True)),
    ):
        value = loss(student, student.detach(), WEIGHTS if student.dim() == 2 else 1.5)
        value.backward()
        assert value.item() == 0
        assert student.grad.shape == student.shape


@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype):
    returned = torch.float64 if dtype == torch.float64 else torch.float32
    for loss, shape, weights in ((weighted_soft_cross_entropy, (300, 3), WEIGHTS), (weighted_soft_binary, (300,), 1.5)):
        student, teacher = (logits.detach().to(dtype) for logits in draw(*shape))
        student.requires_grad_()
        value = loss(student, teacher, weights)
        value.backward()
        assert value.dtype == returned
        assert student.grad.dtype == dtype
        assert value.item() == pytest.approx(loss(student.double(), teacher.double(), weights).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "weights"),
    [
        ((4, 3), (1, 3), (3,)),
        ((4, 3), (4, 1), (3,)),
        ((4, 3), (4, 3), (1,)),
        ((4, 3), (4, 3), (4, 3)),
        ((3,), (3,), (3,)),
    ],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher, weights):
    with pytest.raises(ValueError, match="want equal") as error:
        weighted_soft_cross_entropy(*map(torch.zeros, (student, teacher, weights)))
    assert all(str(shape) in str(error.value) for shape in (student, teacher, weights))


@pytest.mark.parametrize(("student", "teacher"), [((4,), (1,)), ((4,), (4, 1)), ((4, 1), (4, 1)), ((), ())], ids=str)
def test_objectness_of_disagreeing_shapes_is_refused_and_named(student, teacher):
    with pytest.raises(ValueError, match="want equal") as error:
        weighted_soft_binary(torch.zeros(student), torch.zeros(teacher), 1.5)
    assert all(str(shape) in str(error.value) for shape in (student, teacher))
