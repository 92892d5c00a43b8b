"""Feature imitation where a mask says so (Wang et al., CVPR 2019; Chen et al., NIPS 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from det_distill.fp32 import full


def _masked_gap(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, C, H, W) student minus detached teacher, at least fp32, 0 off the mask."""
    if student.dim() != 4 or teacher.shape != student.shape or mask.shape != student[:, 0].shape:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(mask.shape)}"
        raise ValueError(f"want equal (B, C, H, W) maps and a (B, H, W) mask, got {got}")
    if mask.dtype != torch.bool:
        raise ValueError(f"want a bool mask, got {mask.dtype}")
    student, teacher = full(student, teacher)
    return (student - teacher).masked_fill_(~mask[:, None], 0)  # not even a NaN of a cell that is off has a say


def _total(gap: Tensor, distance: Callable[..., Tensor]) -> Tensor:
    """Of `mse_loss` or `l1_loss` to nothing: their backward is one pass over maps that may be large."""
    return distance(gap, gap.new_zeros(()).expand_as(gap), reduction="sum")


def masked_imitation(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Half the squared feature gap, per imitated cell.

    .. math:: \frac{1}{2N} \sum_{byx} M_{byx} \sum_c (s - t)^2_{bcyx}, \quad N = \max(1, \sum M)

    N counts the on-cells of the *whole batch*; channels are summed, never averaged.

    Args:
        student: (B, C, H, W), adapted features, raw activation units.
        teacher: (B, C, H, W), same units; detached here.
        mask: (B, H, W), bool, true where the student imitates.

    Returns:
        Scalar, at least fp32, activation squared per cell; a differentiable 0 if no cell is on.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts) or the mask is not bool.

    Source:
        arXiv:1906.03609, eq. 4; twangnh/Distilling-Object-Detectors@c6583f3.

    Example:
        >>> masked_imitation(torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1).bool())
        tensor(1.)
    """
    gap = _masked_gap(student, teacher, mask)
    return _total(gap, mse_loss) / (2 * mask.sum().clamp(min=1))


def masked_mean_gap(student: Tensor, teacher: Tensor, mask: Tensor, norm: str) -> Tensor:
    r"""Mean squared or absolute feature gap over the elements of the cells that are on.

    .. math:: \frac{1}{\max(1, C \sum M)} \sum_{byx} M_{byx} \sum_c |s - t|^p_{bcyx}, \quad p = 2 \text{ or } 1

    Cells count over the *whole batch*, and so do channels: 2 / C times `masked_imitation` for "l2".

    Args:
        student: (B, C, H, W), adapted features, raw activation units.
        teacher: (B, C, H, W), same units; detached here.
        mask: (B, H, W), bool, true where the student imitates.
        norm: "l2" for the squared gap, "l1" for the absolute.

    Returns:
        Scalar, at least fp32, activation (squared for "l2") per element; a differentiable 0 if no cell is on.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts), the mask is not bool, or the norm is unknown.

    Source:
        The hint of Chen et al., NIPS 2017; that it is a mean over elements is our choice.

    Example:
        >>> masked_mean_gap(torch.full((1, 2, 1, 1), 3.0), torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1).bool(), "l2")
        tensor(9.)
    """
    if norm not in ("l2", "l1"):
        raise ValueError(f"norm={norm!r} is none of 'l2', 'l1'")
    gap = _masked_gap(student, teacher, mask)
    return _total(gap, mse_loss if norm == "l2" else l1_loss) / (student.shape[1] * mask.sum()).clamp(min=1)
