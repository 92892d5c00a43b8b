"""Least squares against torch's own solver on the samples themselves; windows against the layers that make them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from det_distill.inheritance.least_squares import LeastSquares
from det_distill.inheritance.rows import is_plain, matrix_of, rows_at, set_matrix, wanted_of


def problem(samples: int, inputs: int, outputs: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (samples, inputs), (samples, outputs), (outputs, inputs)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 4), st.sampled_from([1e-3, 0.1, 5.0]), st.integers(0, 99))
def test_the_weights_are_those_of_the_stacked_system(samples, inputs, outputs, ridge, seed):
    x, y, start = problem(samples, inputs, outputs, seed)
    squares = LeastSquares(start)
    for one, other in zip(x.split(7), y.split(7), strict=True):
        squares.add(one, other)
    root = (ridge * x.square().sum() / inputs).sqrt()  # a row a weight that pulls it to where it began
    stacked = torch.cat((x, root * torch.eye(inputs).double())), torch.cat((y, root * start.T))
    expected = torch.linalg.lstsq(*stacked).solution.T
    torch.testing.assert_close(squares.solve(ridge), expected, rtol=1e-7, atol=1e-9)


def test_the_unexplained_share_is_the_error_over_the_deviation_from_the_mean():
    x, y, start = problem(50, 3, 2)
    squares = LeastSquares(start)
    squares.add(x, y + 4)
    error = sum((row @ start.T - wanted - 4).square().sum() for row, wanted in zip(x, y, strict=True))
    spread = sum((wanted - y.mean(dim=0)).square().sum() for wanted in y)
    assert squares.unexplained(start) == pytest.approx(float(error / spread))
    assert 0.9 < squares.unexplained(torch.linalg.lstsq(x, y + 4).solution.T) < squares.unexplained(start)


def test_without_a_ridge_what_can_be_told_is_told_exactly():
    x, _, weights = problem(20, 4, 3)
    squares = LeastSquares(torch.zeros_like(weights))
    squares.add(x, x @ weights.T)
    torch.testing.assert_close(squares.solve(0.0), weights)


def test_a_layer_that_is_given_nothing_keeps_its_weights():
    _, y, start = problem(9, 3, 2)
    squares = LeastSquares(start)
    squares.add(torch.zeros(9, 3).double(), y)
    assert squares.solve(0.01).equal(start)


LAYERS = {
    "1x1": nn.Conv2d(3, 5, 1, bias=False),
    "3x3": nn.Conv2d(3, 5, 3, padding=1),
    "stride": nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),
    "dilation": nn.Conv2d(3, 5, 3, padding=2, dilation=2),
    "no padding": nn.Conv2d(3, 5, (2, 3), stride=(1, 2)),
    "7x7": nn.Conv2d(3, 5, 7, stride=2, padding=3),
    "linear": nn.Linear(3, 5),
    "linear without bias": nn.Linear(3, 5, bias=False),
}


def given_to(layer: nn.Module) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 9, 11) if isinstance(layer, nn.Conv2d) else torch.randn(40, 3)


@pytest.mark.parametrize("most", [10, 10**6])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_matrix_times_its_rows_is_what_the_layer_gives_there(kind, most):
    layer, given = LAYERS[kind], given_to(LAYERS[kind])
    made = layer(given).detach()
    wanted = wanted_of(layer, made, torch.arange(5), most)
    places = made.movedim(1, -1) if isinstance(layer, nn.Conv2d) else made
    assert len(wanted.rows) == min(most, places[..., 0].numel())
    assert wanted.rows.equal(places[wanted.places])
    product = rows_at(layer, given, wanted) @ matrix_of(layer).T
    torch.testing.assert_close(product.float(), wanted.rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_matrix_is_read_as_it_was_written(kind):
    layer = LAYERS[kind]
    before = [value.detach().clone() for value in layer.parameters()]
    matrix = matrix_of(layer)
    set_matrix(layer, 2 * matrix)
    assert all(now.equal(2 * then) for now, then in zip(layer.parameters(), before, strict=True))
    set_matrix(layer, matrix)


def test_of_a_wider_layer_some_channels_are_wanted():
    layer = nn.Conv2d(3, 5, 1)
    wide = torch.arange(2 * 8 * 6.0).view(2, 8, 2, 3)
    some = [0, 1, 4, 5, 7]
    wanted = wanted_of(layer, wide, torch.tensor(some), 10**6)
    assert wanted.rows.equal(wide[:, some].permute(0, 2, 3, 1).reshape(12, 5))


def test_other_cells_are_an_error():
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    wanted = wanted_of(layer, torch.zeros(2, 5, 9, 11), torch.arange(5), 10)
    with pytest.raises(ValueError, match=r"it has cells \(2, 5, 6\) on the student, \(2, 9, 11\) on the teacher"):
        rows_at(layer, torch.zeros(2, 3, 9, 11), wanted)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2),
     nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")],
    ids=["groups", "same", "norm", "transposed", "reflect"],
)  # fmt: skip
def test_what_is_no_such_product_is_not_plain(layer):
    assert not is_plain(layer)
    assert is_plain(nn.Conv2d(4, 4, 3))
