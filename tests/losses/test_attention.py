"""Attention transfer against energies that are pooled, scaled and compared one cell at a time."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.attention import attention_transfer, energy

REDUCTIONS = ["sum", "mean", "norm"]
EACH = pytest.mark.parametrize("reduction", REDUCTIONS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)


def draw(*shapes: tuple[int, ...], seed: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def window(i: int, old: int, new: int) -> range:
    """The cells of an axis of `old` that an adaptive pooling to `new` joins to its i-th."""
    return range(math.floor(i * old / new), math.ceil((i + 1) * old / new))


def unit_energy(image: list, power: float, size: tuple[int, int]) -> list[float]:
    """One image's energies, pooled to the size and scaled, in plain numbers."""
    rows, columns = len(image[0]), len(image[0][0])
    pooled = []
    for i, j in itertools.product(*map(range, size)):
        cells = list(itertools.product(window(i, rows, size[0]), window(j, columns, size[1])))
        pooled.append(sum(abs(channel[y][x]) ** power for channel in image for y, x in cells) / len(cells))
    norm = math.sqrt(sum(q * q for q in pooled))
    return [q / norm for q in pooled]


def cell_by_cell(student: Tensor, teacher: Tensor, power: float, reduction: str) -> float:
    """The published formula in plain numbers; shares no code with the loss."""
    size = tuple(min(s, t) for s, t in zip(student.shape[2:], teacher.shape[2:], strict=True))
    squares = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        pairs = zip(unit_energy(s, power, size), unit_energy(t, power, size), strict=True)
        squares.append(sum((a - b) ** 2 for a, b in pairs))
    if reduction == "norm":
        return sum(map(math.sqrt, squares)) / len(squares)
    return sum(squares) / len(squares) / (size[0] * size[1] if reduction == "mean" else 1)


@pytest.mark.parametrize(("reduction", "value"), [("sum", 0.290801), ("mean", 0.145401), ("norm", 0.539260)])
def test_gives_the_values_worked_out_by_hand(reduction: str, value: float):
    student, teacher = torch.tensor([[3.0, 4.0], [4.0, 3.0]], dtype=torch.float64).view(2, 1, 1, 1, 2)
    # Q_s = (9, 16) / sqrt(337) = (.490261, .871576), Q_t the other way round
    assert attention_transfer(student, teacher, reduction=reduction).item() == pytest.approx(value, abs=1e-6)


def test_sum_is_the_default():
    student, teacher = draw((2, 3, 4, 5), (2, 3, 4, 5))
    assert attention_transfer(student, teacher).equal(attention_transfer(student, teacher, 2.0, "sum"))
    assert energy(student).equal(energy(student, 2.0))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5)], ids=str)
def test_energy_is_the_sum_of_powers_over_the_channels(shape: tuple[int, ...], power: float):
    (maps,) = draw(shape)
    found = energy(maps, power)
    assert found.shape == (shape[0], *shape[2:])
    for b, y, x in itertools.product(*map(range, found.shape)):
        assert found[b, y, x].item() == pytest.approx(sum(abs(value) ** power for value in maps[b, :, y, x].tolist()))


@EACH
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((1, 1, 1, 2), (1, 1, 1, 2)),
        ((2, 3, 2, 4), (2, 6, 2, 4)),
        ((2, 2, 2, 3), (2, 1, 4, 6)),  # a larger teacher
        ((1, 2, 5, 4), (1, 3, 3, 3)),  # a larger student, and windows that overlap
        ((1, 2, 2, 5), (1, 2, 3, 4)),  # each larger on one axis
        ((1, 2, 6, 8), (1, 3, 5, 4)),  # a height is no width
    ],
    ids=str,
)
def test_equals_the_formula_cell_by_cell(student, teacher, power: float, reduction: str):
    maps = draw(student, teacher)
    loss = attention_transfer(*maps, power, reduction)
    assert loss.item() == pytest.approx(cell_by_cell(*maps, power, reduction), rel=1e-10)
    assert torch.autograd.gradcheck(lambda s: attention_transfer(s, maps[1], power, reduction), maps[0])
    assert torch.autograd.grad(loss, maps[1], allow_unused=True) == (None,)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), factor=st.floats(0.01, 100), sign=st.sampled_from([-1, 1]))
def test_neither_scale_nor_sign_nor_order_of_channels_nor_of_cells_have_a_say(seed: int, factor: float, sign: int):
    student, teacher = draw((2, 4, 3, 3), (2, 5, 3, 3), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    channels, cells = torch.randperm(4, generator=generator), torch.randperm(9, generator=generator)
    shuffled = sign * factor * student[:, channels].flatten(2)[:, :, cells].view_as(student)
    other = teacher.flatten(2)[:, :, cells].view_as(teacher)
    for reduction in REDUCTIONS:
        expected = attention_transfer(student, teacher, reduction=reduction)
        torch.testing.assert_close(attention_transfer(shuffled, other, reduction=reduction), expected)
        assert attention_transfer(shuffled, shuffled / factor, reduction=reduction).item() == pytest.approx(0, abs=1e-7)
    assert 0 <= attention_transfer(student, teacher).item() <= 2


@pytest.mark.parametrize("reduction", ["sum", "norm"])
def test_a_map_of_larger_cells_weighs_the_same(reduction: str):
    student, teacher = torch.zeros(2, 1, 1, 4, 4)
    student[..., 0, 0], teacher[..., 3, 3] = 5, 2
    far = attention_transfer(student, teacher, reduction=reduction)
    padded = attention_transfer(*(torch.nn.functional.pad(maps, (0, 96, 0, 96)) for maps in (student, teacher)))
    assert far.item() == pytest.approx({"sum": 2, "norm": math.sqrt(2)}[reduction])
    assert padded.item() == pytest.approx(2)


@EACH
def test_is_a_mean_over_images(reduction: str):
    student, teacher = draw((3, 2, 4, 5), (3, 2, 4, 5))
    single = [attention_transfer(s[None], t[None], reduction=reduction) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(attention_transfer(student, teacher, reduction=reduction), sum(single) / 3)


@EACH
@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("dead", ["student", "teacher", "both", "none"])
def test_a_map_of_zeros_or_an_equal_one_is_finite_and_so_is_its_gradient(dead: str, power: float, reduction: str):
    student = torch.zeros(2, 3, 4, 5) if dead in ("student", "both") else draw((2, 3, 4, 5))[0].detach().float()
    teacher = torch.zeros(2, 3, 4, 5) if dead in ("teacher", "both") else draw((2, 3, 4, 5))[0].detach().float()
    loss = attention_transfer(student.requires_grad_(), teacher, power, reduction)
    loss.backward()
    one = 1 / 20 if reduction == "mean" else 1
    assert loss.item() == pytest.approx(one if dead in ("student", "teacher") else 0)
    assert student.grad.abs().max() < 1
    assert dead == "teacher" or not student.grad.any()


@EACH
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
@pytest.mark.parametrize("teacher", [None, (8, 8)], ids=["of equal size", "of another size"])
def test_no_cells_give_a_zero_that_trains(teacher: tuple[int, int] | None, shape: tuple[int, ...], reduction: str):
    student = torch.zeros(shape, requires_grad=True)
    loss = attention_transfer(student, torch.ones(*shape[:2], *(teacher or shape[2:])), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == shape


@pytest.mark.parametrize(("own", "other"), [((0, 3), (2, 3)), ((2, 3), (0, 3))], ids=str)
def test_one_net_without_cells_is_enough_for_a_zero_that_trains(own: tuple[int, int], other: tuple[int, int]):
    student = torch.ones(1, 2, *own, requires_grad=True)
    loss = attention_transfer(student, torch.ones(1, 2, *other))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros_like(student))


@EACH
@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype, reduction: str):
    student, teacher = (40 * maps.detach().to(dtype) for maps in draw((2, 300, 4, 5), (2, 200, 8, 5)))  # overflows fp16
    value = attention_transfer(student.requires_grad_(), teacher, reduction=reduction)
    value.backward()
    wide = torch.promote_types(dtype, torch.float32)
    assert value.dtype == energy(student).dtype == wide
    assert student.grad.dtype == dtype
    assert value.equal(attention_transfer(student.to(wide), teacher.to(wide), reduction=reduction))
    with torch.autocast("cpu", torch.bfloat16):
        assert attention_transfer(student, teacher, reduction=reduction).equal(value)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 3, 4, 5), (1, 3, 4, 5)), ((2, 3, 4, 5), (2, 3, 20)), ((3, 4, 5), (3, 4, 5)), ((), ())],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher):
    with pytest.raises(ValueError, match="want") as error:
        attention_transfer(torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))


def test_maps_without_an_energy_are_refused_and_named():
    with pytest.raises(ValueError, match=r"want \(B, C, H, W\) maps, got \(3, 4, 5\)"):
        energy(torch.zeros(3, 4, 5))


@pytest.mark.parametrize("reduction", ["Sum", "l2", ""])
def test_an_unknown_reduction_is_refused_and_named(reduction: str):
    with pytest.raises(ValueError, match=f"reduction='{reduction}' is none of 'sum', 'mean', 'norm'"):
        attention_transfer(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), reduction=reduction)


@pytest.mark.parametrize("power", [0.5, 0.0, -2.0])
def test_a_power_with_an_infinite_slope_is_refused_and_named(power: float):
    with pytest.raises(ValueError, match=f"power={power} is below 1"):
        attention_transfer(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), power)
