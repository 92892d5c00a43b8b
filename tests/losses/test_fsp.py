"""The flow of the solution against Gram matrices summed one entry and one cell at a time."""

import itertools
import math
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.fsp import flow, flow_of_solution

DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
SHAPES = pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((2, 3, 4, 5), (2, 2, 4, 5)),
        ((2, 3, 4, 6), (2, 2, 2, 3)),
        ((1, 2, 3, 4), (1, 3, 7, 5)),  # a larger second, and windows that overlap
        ((2, 2, 5, 3), (2, 2, 4, 6)),  # each larger on one axis
    ],
    ids=str,
)


def draw(*shapes: tuple[int, ...], seed: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def window(i: int, old: int, new: int) -> range:
    return range(math.floor(i * old / new), math.ceil((i + 1) * old / new))


def pooled(channel: list[list[float]], size: list[int]) -> list[float]:
    """The largest value of every window, in plain numbers."""
    return [
        max(channel[y][x] for y in window(i, len(channel), size[0]) for x in window(j, len(channel[0]), size[1]))
        for i, j in itertools.product(*map(range, size))
    ]


def entry_by_entry(first: Tensor, second: Tensor) -> list[list[list[float]]]:
    """The published formula in plain numbers; shares no code with `flow`."""
    size = [min(sides) for sides in zip(first.shape[2:], second.shape[2:], strict=True)]
    flows = []
    for one, two in zip(first.tolist(), second.tolist(), strict=True):
        rows, columns = ([pooled(channel, size) for channel in image] for image in (one, two))
        flows.append([[sum(map(float.__mul__, row, column)) / math.prod(size) for column in columns] for row in rows])
    return flows


def example() -> tuple[Tensor, Tensor]:
    """Two cells; F1 = (1, 3), F2 = ((2, 0), (4, 1)) one cell to the row."""
    first, second = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0, 0.0], [4.0, 1.0]])
    return tuple(rows.double().T.view(1, -1, 2, 1) for rows in (first, second))


def test_gives_the_values_worked_out_by_hand():
    layers = example()
    assert flow(*layers).tolist() == [[[7.0, 1.5]]]  # (1 * 2 + 3 * 4) / 2, (1 * 0 + 3 * 1) / 2
    student = [torch.zeros_like(layer) for layer in layers]
    assert flow_of_solution(tuple(student), layers).item() == pytest.approx(51.25)  # 49 + 2.25


def test_negating_both_layers_changes_nothing_and_negating_one_does():
    first, second = example()
    assert flow(-first, -second).equal(flow(first, second))
    assert flow(-first, second).equal(-flow(first, second))


@SHAPES
def test_flow_equals_the_formula_entry_by_entry(first, second):
    layers = draw(first, second)
    found = flow(*layers)
    assert found.shape == (first[0], first[1], second[1])
    torch.testing.assert_close(found, torch.tensor(entry_by_entry(*layers), dtype=torch.float64))


@SHAPES
def test_loss_equals_the_formula_entry_by_entry(first, second):
    student, teacher = draw(first, second), draw((*first[:2], 5, 5), (*second[:2], 3, 4), seed=8)
    loss = flow_of_solution(tuple(student), tuple(teacher))
    total = 0.0
    for s, t in zip(entry_by_entry(*student), entry_by_entry(*teacher), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(chain(*s), chain(*t), strict=True))
    assert loss.item() == pytest.approx(total / first[0], rel=1e-10)
    assert torch.autograd.gradcheck(lambda *s: flow_of_solution(s, tuple(teacher)), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None, None)


def test_the_larger_map_is_max_pooled_and_the_cells_that_are_left_divide():
    first = torch.tensor([1.0, 2.0, -3.0, -4.0]).view(1, 1, 1, 4)
    assert flow(first, torch.ones(1, 1, 1, 2)).item() == pytest.approx((2 - 3) / 2)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_cells_has_no_say_and_the_order_of_channels_only_if_the_nets_differ(seed: int):
    maps = draw((2, 3, 2, 4), (2, 4, 2, 4), (2, 3, 2, 4), (2, 4, 2, 4), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    cells, rows = torch.randperm(8, generator=generator), torch.randperm(3, generator=generator)
    expected = flow_of_solution(tuple(maps[:2]), tuple(maps[2:]))
    moved = [layer.flatten(2)[:, :, cells].view_as(layer) for layer in maps[:2]]
    torch.testing.assert_close(flow_of_solution(tuple(moved), tuple(maps[2:])), expected)
    torch.testing.assert_close(flow_of_solution((maps[0][:, rows], maps[1]), (maps[2][:, rows], maps[3])), expected)
    turned = maps[0].roll(1, dims=1)
    assert not torch.isclose(flow_of_solution((turned, maps[1]), tuple(maps[2:])), expected)


def test_is_a_mean_over_images():
    student, teacher = draw((3, 2, 4, 5), (3, 3, 4, 5)), draw((3, 2, 4, 5), (3, 3, 4, 5), seed=8)
    single = [
        flow_of_solution((student[0][[b]], student[1][[b]]), (teacher[0][[b]], teacher[1][[b]])) for b in range(3)
    ]
    torch.testing.assert_close(flow_of_solution(tuple(student), tuple(teacher)), sum(single) / 3)


def test_is_zero_where_both_agree():
    student = draw((2, 2, 4, 5), (2, 3, 2, 3))
    loss = flow_of_solution(tuple(student), tuple(layer.detach().clone() for layer in student))
    loss.backward()
    assert loss.item() == 0
    assert not student[0].grad.any()
    assert not student[1].grad.any()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (2, 0, 4, 5)], ids=str)
def test_no_cells_give_a_zero_that_trains(shape: tuple[int, ...]):
    student = torch.zeros(shape, requires_grad=True), torch.zeros(shape, requires_grad=True)
    loss = flow_of_solution(student, (torch.ones(shape), torch.ones(shape)))
    loss.backward()
    assert loss.item() == 0
    assert student[0].grad.shape == student[1].grad.shape == shape


@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype):
    maps = [4 * layer.detach().to(dtype) for layer in draw(*[(2, 30, 8, 8), (2, 40, 4, 4)] * 2)]  # overflows fp16
    student, teacher = tuple(layer.requires_grad_() for layer in maps[:2]), tuple(maps[2:])
    value = flow_of_solution(student, teacher)
    value.backward()
    wide = torch.promote_types(dtype, torch.float32)
    assert value.dtype == flow(*student).dtype == wide
    assert student[0].grad.dtype == student[1].grad.dtype == dtype
    upcast = [tuple(layer.to(wide) for layer in layers) for layers in (student, teacher)]
    assert value.equal(flow_of_solution(*upcast))
    with torch.autocast("cpu", torch.bfloat16):
        assert flow_of_solution(student, teacher).equal(value)


@pytest.mark.parametrize("narrow", [torch.float16, torch.float32], ids=str)
def test_layers_of_two_dtypes_flow_in_the_one_that_holds_both(narrow: torch.dtype):
    wide, other = draw((2, 3, 4, 4), (2, 3, 4, 4))
    for first, second in ((wide, other.to(narrow)), (other.to(narrow), wide)):
        assert flow(first, second).equal(flow(first.double(), second.double()))


@pytest.mark.parametrize(
    ("first", "second"), [((2, 3, 4, 5), (1, 3, 4, 5)), ((2, 3, 4, 5), (2, 3, 20)), ((), ())], ids=str
)
def test_layers_that_disagree_are_refused_and_named(first, second):
    with pytest.raises(ValueError, match="want two") as error:
        flow(torch.zeros(first), torch.zeros(second))
    assert all(str(shape) in str(error.value) for shape in (first, second))


@pytest.mark.parametrize(
    ("first", "second"), [((2, 1, 4, 5), (2, 3, 4, 5)), ((2, 2, 4, 5), (2, 1, 4, 5)), ((1, 2, 4, 5), (1, 3, 4, 5))]
)
def test_nets_that_disagree_are_refused_named_and_sent_to_an_adapter(first, second):
    student = torch.zeros(2, 2, 4, 5), torch.zeros(2, 3, 4, 5)
    with pytest.raises(ValueError, match="an adapter can make channels equal") as error:
        flow_of_solution(student, (torch.zeros(first), torch.zeros(second)))
    assert all(str(shape) in str(error.value) for shape in ((2, 2, 4, 5), (2, 3, 4, 5), first, second))
