"""The losses on masked maps against the published formulas, one cell at a time."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from det_distill.losses.imitation import masked_imitation, masked_mean_gap

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: list[Loss] = [masked_imitation, partial(masked_mean_gap, norm="l2"), partial(masked_mean_gap, norm="l1")]
EACH = pytest.mark.parametrize("loss_of", LOSSES, ids=["imitation", "mean l2", "mean l1"])


def cell_by_cell(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """The published formula, one cell at a time; shares no code with the loss."""
    total, cells = 0.0, 0
    for b, y, x in itertools.product(*map(range, mask.shape)):
        if mask[b, y, x]:
            cells += 1
            for s, t in zip(student[b, :, y, x], teacher[b, :, y, x], strict=True):
                total += (s - t).item() ** 2
    return total / (2 * max(1, cells))


def element_by_element(student: Tensor, teacher: Tensor, mask: Tensor, power: int) -> float:
    """The mean over elements in plain numbers; shares no code with the loss."""
    on = [
        abs(student[b, c, y, x].item() - teacher[b, c, y, x].item()) ** power
        for b, c, y, x in itertools.product(*map(range, student.shape))
        if mask[b, y, x]
    ]
    return sum(on) / max(1, len(on))


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return student.to(dtype).requires_grad_(), teacher.to(dtype).requires_grad_()


def paper_example() -> tuple[Tensor, Tensor, Tensor]:
    """Four cells of two channels; squared gaps summed over channels: 2, 9 (off), 4, 1."""
    teacher = torch.tensor([[0.5, -1.0, 2.0, 0.0], [1.0, 3.0, -2.0, 4.0]], dtype=torch.float64)
    gap = torch.tensor([[1.0, 0.0, 2.0, 0.0], [-1.0, 3.0, 0.0, -1.0]], dtype=torch.float64)
    maps = [value.view(1, 2, 1, 4) for value in (teacher + gap, teacher, gap)]
    return maps[0].requires_grad_(), maps[1], maps[2]


def test_gives_the_value_worked_out_by_hand():
    student, teacher, _ = paper_example()
    loss = masked_imitation(student, teacher, torch.tensor([[[1, 0, 1, 1]]]).bool())
    assert loss.item() == pytest.approx(7 / 6, rel=1e-12)  # (2 + 4 + 1) / (2 * 3)
    assert 0.01 * loss.item() == pytest.approx(0.0116667, abs=1e-7)


def test_gradient_is_the_gap_over_the_number_of_cells():
    student, teacher, gap = paper_example()
    on = torch.tensor([1.0, 0, 1, 1], dtype=torch.float64)
    masked_imitation(student, teacher, on.bool().view(1, 1, 4)).backward()
    torch.testing.assert_close(student.grad, gap * on / 3)
    assert (student.grad[..., 1] == 0).all()


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 1, 2, 7)], ids=str)
def test_equals_the_formula_cell_by_cell(shape: tuple[int, ...], density: float):
    student, teacher = pair(*shape)
    mask = torch.rand(shape[0], *shape[2:], generator=torch.Generator().manual_seed(1)) < density
    loss = masked_imitation(student, teacher, mask)
    assert loss.item() == pytest.approx(cell_by_cell(student, teacher, mask), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: masked_imitation(s, teacher, mask), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 1, 2, 7)], ids=str)
def test_mean_gap_equals_the_mean_element_by_element(shape: tuple[int, ...], density: float, norm: str, power: int):
    student, teacher = pair(*shape)
    mask = torch.rand(shape[0], *shape[2:], generator=torch.Generator().manual_seed(1)) < density
    loss = masked_mean_gap(student, teacher, mask, norm)
    assert loss.item() == pytest.approx(element_by_element(student, teacher, mask, power), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: masked_mean_gap(s, teacher, mask, norm), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize(("norm", "stock"), [("l2", "mse_loss"), ("l1", "l1_loss")])
def test_mean_gap_over_the_full_map_is_the_stock_loss(norm: str, stock: str):
    student, teacher = pair(2, 6, 4, 5)
    loss = masked_mean_gap(student, teacher, torch.ones(2, 4, 5).bool(), norm)
    torch.testing.assert_close(loss, getattr(torch.nn.functional, stock)(student, teacher))


@pytest.mark.parametrize("norm", ["L2", "smooth_l1", ""])
def test_an_unknown_norm_is_refused_and_named(norm: str):
    with pytest.raises(ValueError, match=f"norm='{norm}' is none of 'l2', 'l1'"):
        masked_mean_gap(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2).bool(), norm)


def test_is_half_the_channels_times_the_masked_mean_square():
    student, teacher = pair(2, 6, 4, 5)
    mask = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    mean_square = torch.nn.functional.mse_loss(student.movedim(1, -1)[mask], teacher.movedim(1, -1)[mask])
    torch.testing.assert_close(masked_imitation(student, teacher, mask), 6 / 2 * mean_square)


def test_counts_cells_over_the_whole_batch_not_image_by_image():
    student, teacher = torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4)
    student[0, ..., 0], student[1] = 4, 2  # image 0: one cell of 16; image 1: four cells of 4
    mask = torch.tensor([[[1, 0, 0, 0]], [[1, 1, 1, 1]]]).bool()
    assert masked_imitation(student, teacher, mask).item() == pytest.approx((16 + 4 * 4) / (2 * 5))


@EACH
def test_is_zero_where_both_agree(loss_of: Loss):
    student, _ = pair(2, 3, 4, 5)
    loss = loss_of(student, student.detach().clone(), torch.ones(2, 4, 5).bool())
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


STUDENT, TEACHER = torch.randn(2, 2, 5, 3, 4, generator=torch.Generator().manual_seed(7))


@EACH
@settings(deadline=None)
@given(on=arrays(bool, (2, 3, 4)).map(torch.from_numpy), noise=st.floats(width=32), side=st.sampled_from([0, 1]))
def test_cells_outside_the_mask_have_no_say(loss_of: Loss, on: Tensor, noise: float, side: int):
    clean = [STUDENT.clone().requires_grad_(), TEACHER]
    spoilt = [STUDENT.clone(), TEACHER.clone()]
    spoilt[side] = spoilt[side].masked_fill(~on[:, None], noise)  # NaN and inf are tried too
    spoilt[0].requires_grad_()
    expected, found = loss_of(*clean, on), loss_of(*spoilt, on)
    assert found.equal(expected)
    gradients = [torch.autograd.grad(loss, maps[0])[0] for loss, maps in ((expected, clean), (found, spoilt))]
    assert gradients[1].equal(gradients[0])


@EACH
@pytest.mark.parametrize("nothing", [(2, 3, 4, 5), (0, 3, 4, 5), (2, 3, 0, 5)], ids=str)
def test_an_empty_mask_gives_a_zero_that_trains(loss_of: Loss, nothing: tuple[int, ...]):
    student, teacher = pair(*nothing)
    loss = loss_of(student, teacher, torch.zeros(nothing[0], *nothing[2:]).bool())
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros_like(student))


@EACH
@pytest.mark.parametrize(
    ("given_", "returned"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_sums_in_fp32_or_better(loss_of: Loss, given_: torch.dtype, returned: torch.dtype):
    student, teacher = pair(2, 300, 4, 5, dtype=given_)
    with torch.no_grad():
        student *= 40  # squares summed over 300 channels overflow fp16
    mask = torch.ones(2, 4, 5).bool()
    loss = loss_of(student, teacher, mask)
    loss.backward()
    assert loss.dtype == returned
    assert student.grad.dtype == given_
    assert loss.item() == pytest.approx(loss_of(student.double(), teacher.double(), mask).item(), rel=1e-5)


@EACH
@pytest.mark.parametrize(
    ("student", "teacher", "mask"),
    [
        ((2, 3, 4, 5), (2, 1, 4, 5), (2, 4, 5)),
        ((2, 3, 4, 5), (1, 3, 4, 5), (2, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 4, 1), (2, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 4, 5), (1, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 4, 5), (2, 1, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 4, 5), (2, 5, 4)),
        ((3, 4, 5), (3, 4, 5), (3, 5)),
    ],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(loss_of: Loss, student, teacher, mask):
    with pytest.raises(ValueError, match="want equal") as error:
        loss_of(torch.zeros(student), torch.zeros(teacher), torch.ones(mask).bool())
    assert all(str(shape) in str(error.value) for shape in (student, teacher, mask))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64], ids=str)
def test_a_mask_that_is_not_bool_is_refused(loss_of: Loss, dtype: torch.dtype):
    with pytest.raises(ValueError, match=f"want a bool mask, got {dtype}"):
        loss_of(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=dtype))
