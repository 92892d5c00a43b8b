"""Feature imitation near objects (Wang et al., CVPR 2019)."""

import torch
from torch import Tensor


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
    if student.dim() != 4 or teacher.shape != student.shape or mask.shape != student[:, 0].shape:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(mask.shape)}"
        raise ValueError(f"want equal (B, C, H, W) maps and a (B, H, W) mask, got {got}")
    if mask.dtype != torch.bool:
        raise ValueError(f"want a bool mask, got {mask.dtype}")
    dtype = torch.promote_types(student.dtype, torch.float32)
    # Cells that are off are replaced before the subtraction, so that not even a NaN there has a say.
    off = ~mask[:, None]
    gap = student.to(dtype).masked_fill(off, 0) - teacher.detach().to(dtype).masked_fill(off, 0)
    return gap.square().sum() / (2 * mask.sum().clamp(min=1))
