"""Proposal mimicry against crops that are cut and summed one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses import proposals
from det_distill.losses.proposals import native_crop_mimic, proposal_mimic

BATCH, CHANNELS, HEIGHT, WIDTH = 2, 3, 5, 6
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)


def draw(*shape: int) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def item_by_item(student: list[Tensor], teacher: list[Tensor], normalise: bool) -> float:
    """The published formula in plain numbers; shares no code with the losses."""
    total = 0.0
    for u, v in zip(student, teacher, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(u.flatten().tolist(), v.flatten().tolist(), strict=True)]
        total += sum(squares) / (len(squares) if normalise else 1)
    return total / (2 * max(1, len(student)))


def cut(maps: Tensor, cells: Tensor) -> list[Tensor]:
    return [maps[image, :, y1:y2, x1:x2] for image, x1, y1, x2, y2 in cells.tolist()]


@st.composite
def rectangles(draw_from: st.DrawFn) -> Tensor:
    x, y = (st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in (WIDTH, HEIGHT))
    rows = draw_from(st.lists(st.tuples(st.integers(0, BATCH - 1), x, y), max_size=6))
    return torch.tensor([[image, x1, y1, x2, y2] for image, (x1, x2), (y1, y2) in rows], dtype=torch.long).view(-1, 5)


def test_gives_the_value_worked_out_by_hand():
    gap = torch.tensor([[1, 1, 3], [1, 1, 3]], dtype=torch.float64)
    teacher = torch.arange(6, dtype=torch.float64).view(1, 1, 2, 3)
    student = (teacher + gap).requires_grad_()
    cells = torch.tensor([[0, 0, 0, 2, 2], [0, 2, 0, 3, 2]])  # 4 elements off by 1, 2 elements off by 3
    loss = native_crop_mimic(student, teacher, cells)
    loss.backward()
    assert loss.item() == pytest.approx(2.5)  # (4 / 4 + 18 / 2) / (2 * 2)
    per_item = torch.tensor([[4.0, 4, 2], [4, 4, 2]], dtype=torch.float64)
    torch.testing.assert_close(student.grad[0, 0], gap / (2 * per_item))  # (r - u) / (N m)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 2, 4, 5)], ids=str)
def test_equals_the_formula_item_by_item(shape: tuple[int, ...], normalise: bool):
    student, teacher = draw(*shape)
    loss = proposal_mimic(student, teacher, normalise)
    assert loss.item() == pytest.approx(item_by_item(list(student), list(teacher), normalise), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: proposal_mimic(s, teacher, normalise), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_of_equal_sizes_is_half_the_mean_square():
    student, teacher = draw(4, 3, 7, 7)
    half = torch.nn.functional.mse_loss(student, teacher) / 2
    torch.testing.assert_close(proposal_mimic(student, teacher), half)


@settings(deadline=None)
@given(cells=rectangles(), normalise=st.booleans())
def test_the_four_corners_give_what_cutting_the_crops_gives(cells: Tensor, normalise: bool):
    student, teacher = draw(BATCH, CHANNELS, HEIGHT, WIDTH)
    loss = native_crop_mimic(student, teacher, cells, normalise)
    expected = item_by_item(cut(student, cells), cut(teacher, cells), normalise)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    weight = torch.zeros(BATCH, 1, HEIGHT, WIDTH, dtype=torch.float64)
    for crop in cut(weight, cells):
        crop += 1 / (len(cells) * (CHANNELS * crop.numel() if normalise else 1))
    torch.testing.assert_close(gradient, (student - teacher).detach() * weight)


def test_native_crops_pass_the_gradient_check_and_leave_the_teacher_alone():
    student, teacher = draw(BATCH, CHANNELS, HEIGHT, WIDTH)
    cells = torch.tensor([[0, 0, 0, 6, 5], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 5, 4, 6, 5]])  # nested, twice, corner
    assert torch.autograd.gradcheck(lambda s: native_crop_mimic(s, teacher, cells), student)
    loss = native_crop_mimic(student, teacher, cells)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize("normalise", [True, False])
def test_native_crops_of_one_size_are_stacked_proposals(normalise: bool):
    student, teacher = draw(BATCH, CHANNELS, HEIGHT, WIDTH)
    cells = torch.tensor([[0, 0, 0, 2, 3], [1, 4, 2, 6, 5], [1, 1, 1, 3, 4]])
    stacked = proposal_mimic(torch.stack(cut(student, cells)), torch.stack(cut(teacher, cells)), normalise)
    torch.testing.assert_close(native_crop_mimic(student, teacher, cells, normalise), stacked)


def test_a_small_crop_keeps_its_digits_behind_a_large_sum():
    student = torch.full((1, 1, 64, 64), 100.0)
    student[..., 60:, 60:] = 0.1
    loss = native_crop_mimic(student, torch.zeros_like(student), torch.tensor([[0, 60, 60, 64, 64]]))
    assert loss.item() == pytest.approx(0.005, rel=1e-5)  # behind 4e7


def test_both_are_zero_where_student_and_teacher_agree():
    student, _ = draw(BATCH, CHANNELS, HEIGHT, WIDTH)
    cells = torch.tensor([[0, 0, 0, 6, 5], [1, 2, 1, 3, 4]])
    loss = proposal_mimic(student, student) + native_crop_mimic(student, student, cells)
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


@pytest.mark.parametrize("shape", [(0, 3, 7, 7), (4, 0)], ids=str)
def test_no_items_give_a_zero_that_trains(shape: tuple[int, ...]):
    student = torch.zeros(shape, requires_grad=True)
    loss = proposal_mimic(student, torch.zeros(shape))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == shape


@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (0, 3, 5, 6), (2, 3, 0, 6)], ids=str)
def test_no_rectangles_give_a_zero_that_trains(shape: tuple[int, ...]):
    student, teacher = draw(*shape)
    loss = native_crop_mimic(student, teacher, torch.zeros(0, 5, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros_like(student))


@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype):
    returned = torch.float64 if dtype == torch.float64 else torch.float32
    cells = torch.tensor([[0, 0, 0, 6, 5], [1, 2, 1, 3, 4]])
    for loss, other in ((proposal_mimic, ()), (native_crop_mimic, (cells,))):
        student, teacher = (300 * maps.detach().to(dtype) for maps in draw(2, 300, 5, 6))  # squares overflow fp16
        student.requires_grad_()
        value = loss(student, teacher, *other)
        value.backward()
        assert value.dtype == returned
        assert student.grad.dtype == dtype
        assert value.item() == pytest.approx(loss(student.double(), teacher.double(), *other).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"), [((4, 3), (1, 3)), ((4, 3), (4, 1)), ((4, 3), (4,)), ((), ())], ids=str
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher):
    with pytest.raises(ValueError, match="want equal") as error:
        proposal_mimic(torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))


@pytest.mark.parametrize(
    ("student", "teacher", "cells"),
    [
        ((2, 3, 5, 6), (2, 1, 5, 6), (4, 5)),
        ((2, 3, 5, 6), (1, 3, 5, 6), (4, 5)),
        ((2, 3, 5, 6), (2, 3, 5, 6), (4, 4)),
        ((2, 3, 5, 6), (2, 3, 5, 6), (5,)),
        ((3, 5, 6), (3, 5, 6), (4, 5)),
    ],
    ids=str,
)
def test_maps_and_cells_that_disagree_are_refused_and_named(student, teacher, cells):
    with pytest.raises(ValueError, match="want equal") as error:
        native_crop_mimic(torch.zeros(student), torch.zeros(teacher), torch.zeros(cells, dtype=torch.long))
    assert all(str(shape) in str(error.value) for shape in (student, teacher, cells))


@pytest.mark.parametrize(
    "rectangle",
    [
        [0, 2, 1, 2, 3],  # no width
        [0, 2, 3, 4, 3],  # no height
        [0, 4, 1, 2, 3],  # turned round
        [0, -1, 0, 2, 2],
        [0, 0, -1, 2, 2],
        [0, 0, 0, 7, 2],
        [0, 0, 0, 2, 6],
        [2, 0, 0, 2, 2],
        [-1, 0, 0, 2, 2],
    ],
    ids=str,
)
def test_a_rectangle_that_is_empty_or_leaves_the_maps_is_refused_and_named(rectangle: list[int], monkeypatch):
    maps = torch.zeros(BATCH, CHANNELS, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="2 maps of 5 x 6") as error:
        native_crop_mimic(maps, maps, torch.tensor([[0, 0, 0, 6, 5], rectangle]))
    assert str(rectangle) in str(error.value)
    monkeypatch.setattr(proposals, "_demand", lambda *_: None)  # as on a GPU
    assert native_crop_mimic(maps, maps, torch.tensor([[0, 0, 0, 6, 5], rectangle])).isnan()


@pytest.mark.parametrize("on", [[True, False, True], [False] * 3, [True] * 3], ids=str)
def test_a_crop_that_is_off_counts_but_has_no_share(on: list[bool]):
    student, teacher = draw(BATCH, CHANNELS, HEIGHT, WIDTH)
    cells = torch.tensor([[0, 0, 0, 2, 3], [1, 4, 2, 6, 5], [1, 1, 1, 3, 4]])
    kept = cells[torch.tensor(on)]
    expected = native_crop_mimic(student, teacher, kept) * len(kept) / 3
    torch.testing.assert_close(native_crop_mimic(student, teacher, cells, on=torch.tensor(on)), expected)


@pytest.mark.parametrize("on", [torch.ones(2).bool(), torch.ones(1), torch.tensor(True)], ids=str)
def test_other_marks_than_a_bool_a_rectangle_are_refused(on: Tensor):
    maps = torch.zeros(BATCH, CHANNELS, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="want bool on of 1 rectangles"):
        native_crop_mimic(maps, maps, torch.tensor([[0, 0, 0, 6, 5]]), on=on)


def test_cells_that_are_not_int64_are_refused():
    maps = torch.zeros(BATCH, CHANNELS, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"want int64 cells, got torch\.float32"):
        native_crop_mimic(maps, maps, torch.tensor([[0.0, 0, 0, 6, 5]]))
