"""Activation boundaries against the four cases of the paper, one neuron at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.activation_boundary import activation_boundary

DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
SHAPES = pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 1, 2, 7)], ids=str)


def draw(*shape: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def neuron_by_neuron(student: Tensor, teacher: Tensor, mu: float) -> float:
    """The published formula in plain numbers; shares no code with the loss."""
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        if t <= 0 and s > -mu:
            total += (s + mu) ** 2
        elif t > 0 and s <= mu:
            total += (s - mu) ** 2
    return total / max(1, len(student))


def test_gives_the_values_worked_out_by_hand():
    student, teacher = torch.tensor([[0.5, -2, 0.2, 1.5], [-1, -1, 3, 3]], dtype=torch.float64).view(2, 1, 4, 1, 1)
    student.requires_grad_()
    loss = activation_boundary(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(2.89)  # 1.5^2 + 0 + .8^2 + 0
    assert 0.003 * loss.item() == pytest.approx(0.00867)  # the code's factor, our weight
    assert student.grad.flatten().tolist() == pytest.approx([3, 0, -1.6, 0])


def test_is_not_zero_where_both_agree_within_the_margin():
    maps = torch.tensor([0.5, 1.0, -3.0], dtype=torch.float64).view(3, 1, 1, 1)
    assert activation_boundary(maps[:1], maps[:1]).item() == pytest.approx(0.25)
    assert activation_boundary(maps[1:], maps[1:]).item() == 0


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, 3.0])
@SHAPES
def test_equals_the_formula_neuron_by_neuron(shape: tuple[int, ...], margin: float):
    student, teacher = draw(*shape)
    loss = activation_boundary(student, teacher, margin)
    assert loss.item() == pytest.approx(neuron_by_neuron(student, teacher, margin), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: activation_boundary(s, teacher, margin), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize("t", [-1.0, -0.0, 0.0, 1e-30, 1.0])
@pytest.mark.parametrize("s", [-1.0, -0.0, 0.0, 1.0])
def test_on_the_border_of_a_case_too(s: float, t: float):
    student, teacher = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (s, t))
    loss = activation_boundary(student.requires_grad_(), teacher)
    loss.backward()
    assert loss.item() == neuron_by_neuron(student, teacher, 1.0)
    assert student.grad.item() == (2 * (s - 1) if t > 0 else 2 * (s + 1))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), factor=st.floats(1e-3, 1e3))
def test_of_the_teacher_only_who_fires_has_a_say(seed: int, factor: float):
    student, teacher = draw(2, 3, 4, 5, seed=seed)
    loss = activation_boundary(student, teacher)
    assert activation_boundary(student, factor * teacher).equal(loss)
    assert activation_boundary(student, teacher.relu()).equal(loss)  # a tap behind the ReLU will do


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), factor=st.floats(0.1, 10))
def test_neurons_may_be_reordered_and_margin_and_student_scaled_as_one(seed: int, factor: float):
    student, teacher = draw(2, 3, 2, 2, seed=seed)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    loss = activation_boundary(student, teacher)
    torch.testing.assert_close(activation_boundary(student[:, order], teacher[:, order]), loss)
    torch.testing.assert_close(activation_boundary(factor * student, teacher, factor), factor**2 * loss)


def test_is_a_sum_over_neurons_and_a_mean_over_images():
    student, teacher = draw(2, 3, 4, 5)
    loss = activation_boundary(student, teacher)
    twice = [maps.repeat(2, 1, 1, 1) for maps in (student, teacher)]
    torch.testing.assert_close(activation_boundary(*twice), loss)
    wider = [maps.repeat(1, 2, 3, 1) for maps in (student, teacher)]
    torch.testing.assert_close(activation_boundary(*wider), 6 * loss)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)], ids=str)
def test_no_neurons_give_a_zero_that_trains(shape: tuple[int, ...]):
    student = torch.zeros(shape, requires_grad=True)
    loss = activation_boundary(student, torch.zeros(shape))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == shape


@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype):
    student, teacher = (300 * maps.detach().to(dtype) for maps in draw(2, 300, 4, 5))  # squares overflow fp16
    value = activation_boundary(student.requires_grad_(), teacher)
    value.backward()
    wide = torch.promote_types(dtype, torch.float32)
    assert value.dtype == wide
    assert student.grad.dtype == dtype
    assert value.equal(activation_boundary(student.to(wide), teacher.to(wide)))
    with torch.autocast("cpu", torch.bfloat16):
        assert activation_boundary(student, teacher).equal(value)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 3, 4, 5), (1, 3, 4, 5)), ((2, 3, 4, 5), (2, 1, 4, 5)), ((2, 3, 4, 5), (2, 3, 4, 1)), ((3, 4), (3, 4))],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher):
    with pytest.raises(ValueError, match="want equal") as error:
        activation_boundary(torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))
