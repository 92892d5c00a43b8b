"""Neuron selectivity against kernels summed one pair of channels at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.selectivity import neuron_selectivity

KERNELS = ["linear", "polynomial", "gaussian"]
EACH = pytest.mark.parametrize("kernel", KERNELS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)


def draw(*shapes: tuple[int, ...], seed: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def squared_distance(x: list[float], y: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def pair_by_pair(student: Tensor, teacher: Tensor, kernel: str, sigma2: float | None = None) -> float:
    """The published formula in plain numbers; shares no code with the loss."""
    losses = []
    for images in zip(student.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True):
        s, t = ([[a / math.sqrt(dot(row, row)) for a in row] for row in image] for image in images)
        width = sigma2 or mean([squared_distance(x, y) for x in s for y in t])
        k = {
            "linear": dot,
            "polynomial": lambda x, y: dot(x, y) ** 2,
            "gaussian": lambda x, y, width=width: math.exp(-squared_distance(x, y) / (2 * width)),
        }[kernel]
        ss, tt, st_ = (mean([k(x, y) for x in left for y in right]) for left, right in ((s, s), (t, t), (s, t)))
        losses.append(ss + tt - 2 * st_)
    return mean(losses)


@pytest.mark.parametrize(
    ("student", "kernel", "sigma2", "value"),
    [
        ((0.0, 1.0), "linear", None, 2.0),
        ((0.0, 1.0), "polynomial", None, 2.0),
        ((0.0, 1.0), "gaussian", 1.0, 1.264241),  # 2 - 2 exp(-1)
        ((1.0, 1.0), "linear", None, 0.585786),  # 2 - sqrt(2)
        ((1.0, 1.0), "polynomial", None, 1.0),
        ((1.0, 1.0), "gaussian", 1.0, 0.507796),  # 2 - 2 exp(-(2 - sqrt(2)) / 2)
        ((0.0, 1.0), "gaussian", None, 0.786939),  # sigma2 = 2, so 2 - 2 exp(-1 / 2)
    ],
)
def test_gives_the_values_worked_out_by_hand(student, kernel: str, sigma2: float | None, value: float):
    maps = [torch.tensor(cells, dtype=torch.float64).view(1, 1, 1, 2) for cells in (student, (1.0, 0.0))]
    assert neuron_selectivity(*maps, kernel, sigma2).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("kernel", "sigma2"), [*((kernel, None) for kernel in KERNELS), ("gaussian", 0.3)])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [((1, 1, 1, 2), (1, 1, 1, 2)), ((2, 3, 4, 5), (2, 6, 4, 5)), ((3, 5, 2, 3), (3, 1, 2, 3))],
    ids=str,
)
def test_equals_the_formula_pair_by_pair(student, teacher, kernel: str, sigma2: float | None):
    maps = draw(student, teacher)
    loss = neuron_selectivity(*maps, kernel, sigma2)
    assert loss.item() == pytest.approx(pair_by_pair(*maps, kernel, sigma2), rel=1e-9)
    assert torch.autograd.grad(loss, maps[1], allow_unused=True, retain_graph=True) == (None,)
    if kernel != "gaussian" or sigma2:
        assert torch.autograd.gradcheck(lambda s: neuron_selectivity(s, maps[1], kernel, sigma2), maps[0])


@pytest.mark.parametrize("apart", [1.0, 0.1, 0.02])
def test_the_width_of_its_own_follows_patterns_that_are_near_each_other(apart: float):
    student, teacher = (5 + apart * maps for maps in draw((2, 3, 2, 3), (2, 4, 2, 3)))  # at 0.02 the width is 3e-5
    loss = neuron_selectivity(student, teacher, "gaussian").item()
    width = None if apart > 0.05 else 1e-4
    assert loss == pytest.approx(pair_by_pair(student, teacher, "gaussian", width), rel=1e-6)


def test_the_width_of_its_own_is_one_for_each_image_and_gets_no_gradient():
    student, teacher = draw((2, 3, 2, 3), (2, 4, 2, 3))
    (found,) = torch.autograd.grad(neuron_selectivity(student, teacher, "gaussian"), student)
    for b in range(2):
        rows = [maps[b].detach().flatten(1) for maps in (student, teacher)]
        s, t = (row / row.norm(dim=1, keepdim=True) for row in rows)
        fixed = mean([squared_distance(x, y) for x in s.tolist() for y in t.tolist()])
        loss = neuron_selectivity(student[[b]], teacher[[b]], "gaussian", fixed) / 2
        (expected,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(found[b], expected[b])


@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (2, 4, 1, 7)], ids=str)
def test_polynomial_is_a_gap_of_gram_matrices_and_linear_one_of_mean_patterns(shape: tuple[int, ...]):
    student, teacher = draw(shape, (shape[0], 6, *shape[2:]))
    s, t = (maps.flatten(2) / maps.flatten(2).norm(dim=2, keepdim=True) for maps in (student, teacher))
    grams = [rows.transpose(1, 2) @ rows / rows.shape[1] for rows in (s, t)]
    torch.testing.assert_close(
        neuron_selectivity(student, teacher), (grams[0] - grams[1]).square().sum(dim=(1, 2)).mean()
    )
    gap = (s.mean(dim=1) - t.mean(dim=1)).square().sum(dim=1).mean()
    torch.testing.assert_close(neuron_selectivity(student, teacher, "linear"), gap)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), low=st.floats(0.01, 1), high=st.floats(1, 100))
def test_neither_order_nor_positive_scale_of_channels_nor_order_of_cells_have_a_say(seed: int, low: float, high: float):
    student, teacher = draw((2, 4, 2, 3), (2, 5, 2, 3), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    channels, cells = torch.randperm(4, generator=generator), torch.randperm(6, generator=generator)
    scale = torch.linspace(low, high, 4, dtype=torch.float64)[:, None, None]
    moved, other = (maps.flatten(2)[:, :, cells].view_as(maps) for maps in ((scale * student)[:, channels], teacher))
    for kernel in KERNELS:
        expected = neuron_selectivity(student, teacher, kernel)
        assert expected.item() >= -1e-12
        torch.testing.assert_close(neuron_selectivity(moved, other, kernel), expected)
        same = neuron_selectivity(student, (scale * student)[:, channels], kernel)
        assert same.item() == pytest.approx(0, abs=1e-12)


@EACH
def test_twice_the_channels_are_the_same_distribution(kernel: str):
    student, teacher = draw((2, 3, 2, 3), (2, 4, 2, 3))
    twice = neuron_selectivity(student.repeat(1, 2, 1, 1), teacher, kernel)
    torch.testing.assert_close(twice, neuron_selectivity(student, teacher, kernel))


@EACH
def test_is_a_mean_over_images(kernel: str):
    student, teacher = draw((3, 2, 4, 5), (3, 4, 4, 5))
    single = [neuron_selectivity(s[None], t[None], kernel) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(neuron_selectivity(student, teacher, kernel), sum(single) / 3)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("channels", [1, 4])
def test_is_zero_where_both_agree(channels: int, dtype: torch.dtype, kernel: str):
    student = draw((2, channels, 4, 5))[0].detach().to(dtype).requires_grad_()
    loss = neuron_selectivity(student, student.detach().clone(), kernel)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-4


@EACH
@pytest.mark.parametrize("dead", ["one channel", "student", "teacher", "both"])
def test_a_dead_channel_is_finite_and_gets_no_gradient(dead: str, kernel: str):
    student, teacher = (maps.detach().float() for maps in draw((2, 3, 4, 5), (2, 4, 4, 5)))
    if dead in ("student", "both"):
        student.zero_()
    if dead in ("teacher", "both"):
        teacher.zero_()
    student[:, 1] = 0
    loss = neuron_selectivity(student.requires_grad_(), teacher, kernel)
    loss.backward()
    assert 0 <= loss.item() <= 2
    assert student.grad.abs().max() < 10
    assert not student.grad[:, 1].any()
    assert dead != "both" or loss.item() == 0


@EACH
def test_a_nan_is_not_taken_for_a_dead_channel(kernel: str):
    student, teacher = torch.ones(2, 1, 3, 4, 5)
    student[0, 1, 2, 3] = math.nan
    assert neuron_selectivity(student, teacher, kernel).isnan()


@EACH
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)], ids=str)
def test_no_channels_give_a_zero_that_trains(shape: tuple[int, ...], kernel: str):
    student = torch.zeros(shape, requires_grad=True)
    loss = neuron_selectivity(student, torch.ones(shape[0], 2, *shape[2:]), kernel)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == shape


@EACH
@pytest.mark.parametrize(("own", "other"), [(0, 2), (2, 0)])
def test_one_net_without_channels_is_enough_for_a_zero_that_trains(own: int, other: int, kernel: str):
    student = torch.ones(1, own, 3, 3, requires_grad=True)
    loss = neuron_selectivity(student, torch.ones(1, other, 3, 3), kernel)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros_like(student))


@EACH
@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype, kernel: str):
    student, teacher = (300 * maps.detach().to(dtype) for maps in draw((2, 30, 8, 9), (2, 40, 8, 9)))  # overflows fp16
    value = neuron_selectivity(student.requires_grad_(), teacher, kernel)
    value.backward()
    wide = torch.promote_types(dtype, torch.float32)
    assert value.dtype == wide
    assert student.grad.dtype == dtype
    assert value.equal(neuron_selectivity(student.to(wide), teacher.to(wide), kernel))
    assert value.item() == pytest.approx(pair_by_pair(student.double(), teacher.double(), kernel), rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert neuron_selectivity(student, teacher, kernel).equal(value)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((2, 3, 4, 5), (1, 3, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 5, 4)),
        ((2, 3, 4, 5), (2, 3, 20)),
        ((3, 4, 5), (3, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 4, 5, 1)),
    ],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher):
    with pytest.raises(ValueError, match="equal B, H and W") as error:
        neuron_selectivity(torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))


@pytest.mark.parametrize("kernel", ["poly", "Gaussian", ""])
def test_an_unknown_kernel_is_refused_and_named(kernel: str):
    with pytest.raises(ValueError, match=f"kernel='{kernel}' is none of 'linear', 'polynomial', 'gaussian'"):
        neuron_selectivity(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), kernel)


@pytest.mark.parametrize(("kernel", "sigma2"), [("gaussian", 0.0), ("gaussian", -1.0), ("linear", 1.0)])
def test_a_width_that_is_not_positive_or_without_a_gaussian_is_refused(kernel: str, sigma2: float):
    with pytest.raises(ValueError, match=f"sigma2={sigma2} for kernel='{kernel}'"):
        neuron_selectivity(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), kernel, sigma2)
