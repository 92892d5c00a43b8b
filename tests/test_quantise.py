"""The quantiser against the nearest level found by trying them all."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.proposals import proposal_mimic
from det_distill.quantise import Quantiser, quantise

FEATURES = st.lists(st.floats(-1e4, 1e4), max_size=8).map(lambda values: torch.tensor(values, dtype=torch.float64))
STEPS = st.sampled_from([0.1, 0.25, 0.5, 1.0, 3.0])


def nearest_level(feature: float, step: float, levels: range) -> float:
    """The published intervals, tried one after another; `step` must be a power of two to tie exactly."""
    for alpha, beta, gamma in zip(levels, levels[1:], levels[2:], strict=False):
        if step * (alpha + beta) / 2 < feature <= step * (beta + gamma) / 2:
            return step * beta
    raise AssertionError(f"{feature} lies on no level")


@pytest.mark.parametrize(
    ("step", "features", "expected"),
    [
        (1, [-0.3, 0, 0.5, 0.51, 1.5, 1.51, 2.5], [0, 0, 0, 1, 1, 2, 2]),
        (0.5, [0.25, 0.26, 0.75, 0.76], [0, 0.5, 0.5, 1]),
    ],
)
def test_gives_the_values_worked_out_by_hand(step: float, features: list[float], expected: list[float]):
    assert quantise(torch.tensor(features), step).tolist() == expected


def test_mimicry_of_quantised_features_gives_the_value_worked_out_by_hand():
    teacher = torch.tensor([[1.4, 2.6]], dtype=torch.float64)
    student = torch.tensor([[0.6, 2.5]], dtype=torch.float64, requires_grad=True)
    loss = proposal_mimic(quantise(student), quantise(teacher), normalise=False)
    loss.backward()
    assert loss.item() == 0.5  # (1, 2) against (1, 3)
    assert student.grad.tolist() == [[0, -1]]


@pytest.mark.parametrize("step", [0.25, 1.0, 4.0])
def test_lies_in_the_published_interval_with_midpoints_going_down(step: float):
    features = step * torch.arange(-5, 5.01, 0.125, dtype=torch.float64)
    signed = [nearest_level(f, step, range(-9, 10)) for f in features.tolist()]
    assert quantise(features, step, signed=True).tolist() == signed
    assert quantise(features, step).tolist() == [max(0, q) for q in signed]


def test_large_features_are_not_clamped():
    assert quantise(torch.tensor([1e6, 1e6 + 0.75])).tolist() == [1e6, 1e6 + 1]


@settings(deadline=None)
@given(features=FEATURES, step=STEPS, signed=st.booleans())
def test_a_second_time_changes_nothing(features: Tensor, step: float, signed: bool):
    once = quantise(features, step, signed)
    assert quantise(once, step, signed).equal(once)


@settings(deadline=None)
@given(features=FEATURES, step=STEPS, signed=st.booleans())
def test_keeps_the_order(features: Tensor, step: float, signed: bool):
    assert (quantise(features.sort().values, step, signed).diff() >= 0).all()


@settings(deadline=None)
@given(features=FEATURES, step=STEPS)
def test_moves_no_feature_by_more_than_half_a_step(features: Tensor, step: float):
    half = step / 2 + 1e-10
    assert ((quantise(features, step, signed=True) - features).abs() <= half).all()
    positive = features.abs()
    assert ((quantise(positive, step) - positive).abs() <= half).all()


@settings(deadline=None)
@given(features=FEATURES, step=STEPS, signed=st.booleans())
def test_the_straight_through_gradient_is_the_identity_and_the_value_stays_on_the_grid(features, step, signed):
    features.requires_grad_()
    through = quantise(features, step, signed)
    through.backward(torch.full_like(features, 3))
    assert features.grad.equal(torch.full_like(features, 3))  # negatives too
    assert through.equal(quantise(features, step, signed, straight_through=False))


@pytest.mark.parametrize("signed", [False, True])
def test_without_straight_through_the_gradient_is_a_zero_that_can_be_taken(signed: bool):
    features = torch.linspace(-3, 3, 25, requires_grad=True)
    quantise(features, signed=signed, straight_through=False).sum().backward()
    assert features.grad.equal(torch.zeros(25))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_keeps_the_dtype_and_rounds_in_fp32_or_better(dtype: torch.dtype):
    whole = torch.arange(256, dtype=dtype, requires_grad=True)  # on the grid already, exact in every dtype
    found = quantise(whole)
    found.sum().backward()
    assert found.equal(whole)
    assert (found.dtype, whole.grad.dtype) == (dtype, dtype)


@pytest.mark.parametrize(("signed", "straight_through"), [*itertools.product([False, True], repeat=2)])
def test_the_layer_equals_the_function(signed: bool, straight_through: bool):
    features = torch.linspace(-3, 3, 25, requires_grad=True)
    layer = Quantiser(0.5, signed, straight_through)
    expected = quantise(features, 0.5, signed, straight_through)
    assert layer(features).equal(expected)
    gradients = [torch.autograd.grad(value.sum(), features)[0] for value in (layer(features), expected)]
    assert gradients[0].equal(gradients[1])
    assert not layer.state_dict()


def test_the_layer_prints_its_settings():
    assert repr(Quantiser(0.5, signed=True)) == "Quantiser(step=0.5, signed=True, straight_through=True)"
    assert repr(Quantiser()) == "Quantiser(step=1.0, signed=False, straight_through=True)"  # as the function's


@pytest.mark.parametrize("step", [0, -1.0, float("nan"), float("inf")])
def test_a_step_that_is_no_positive_number_is_refused(step: float):
    with pytest.raises(ValueError, match=f"step={step} is not a positive"):
        Quantiser(step)
