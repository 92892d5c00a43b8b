"""Neuron selectivity transfer: the distribution of channel patterns (Huang and Wang, 2017)."""

import torch
from torch import Tensor

from det_distill.fp32 import full, no_autocast

KERNELS = ("linear", "polynomial", "gaussian")


def _patterns(maps: Tensor) -> Tensor:
    """(B, C, HW) channels of unit L2 norm over space; a dead one is 0 and gets no gradient."""
    rows = maps.flatten(2)
    norm = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    return rows.div(norm.clamp(min=1e-6)).masked_fill(norm <= 1e-6, 0)


def _squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """(B, C, C') from products of matrices, for a broadcast would hold C * C' * HW numbers."""
    norms = x.square().sum(dim=2)[:, :, None] + y.square().sum(dim=2)[:, None]
    return (norms - 2 * x @ y.transpose(1, 2)).clamp(min=0)


def neuron_selectivity(
    student: Tensor, teacher: Tensor, kernel: str = "polynomial", sigma2: float | None = None
) -> Tensor:
    r"""Squared maximum mean discrepancy between the channels of both nets, each one a sample, per image.

    .. math:: \frac{1}{\max(1, B)} \sum_b \overline{k(s, s')} + \overline{k(t, t')} - 2\,\overline{k(s, t)}

    The bars are means over all C^2, C'^2 and C C' pairs of channels of one image, of patterns scaled to unit L2
    norm over space. The teacher's own term, a constant, is kept: the loss is 0 at equal distributions and, up to
    rounding, nowhere negative. The paper's lambda / 2 is the term's weight.

    Args:
        student: (B, C, H, W), raw activation units.
        teacher: (B, C', H, W), of the same images and size; detached here.
        kernel: "linear" x.y, "polynomial" (x.y)^2 or "gaussian" exp(-||x - y||^2 / 2 sigma2).
        sigma2: The gaussian's; by default the mean squared distance of the C C' pairs of the image, detached, at
            least 1e-4, below which fp32 has no digits left.

    Returns:
        Scalar, at least fp32, no unit; a differentiable 0 without images, channels or cells.

    Raises:
        ValueError: If the maps are no (B, C, H, W) of one B, H and W, the kernel is unknown, or sigma2 is not
            positive or is given to another kernel than the gaussian.

    Source:
        arXiv:1707.01219; TuSimple/neuron-selectivity-transfer, which drops the teacher's term.

    Example:
        >>> student, teacher = torch.tensor([1.0, 1.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
        >>> neuron_selectivity(student, teacher)  # 1 + 1 - 2 * (1 / sqrt(2))^2
        tensor(1.0000)
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel={kernel!r} is none of {', '.join(map(repr, KERNELS))}")
    if sigma2 is not None and (kernel != "gaussian" or sigma2 <= 0):
        raise ValueError(f"sigma2={sigma2} for kernel={kernel!r}, want a positive number for 'gaussian' alone")
    if student.dim() != 4 or len(student) != len(teacher) or student.shape[2:] != teacher.shape[2:]:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}"
        raise ValueError(f"want (B, C, H, W) maps of equal B, H and W, got {got}")
    student, teacher = full(student, teacher)
    if 0 in student.shape or 0 in teacher.shape:
        return student[:0].sum()
    s, t = _patterns(student), _patterns(teacher)
    with no_autocast(student):
        if kernel == "gaussian":
            distances = [_squared_distance(x, y) for x, y in ((s, s), (t, t), (s, t))]
            width = distances[2].detach().mean(dim=(1, 2), keepdim=True).clamp(min=1e-4) if sigma2 is None else sigma2
            ss, tt, st = (torch.exp(-distance / (2 * width)) for distance in distances)
        else:
            power = 1 if kernel == "linear" else 2
            ss, tt, st = ((x @ y.transpose(1, 2)) ** power for x, y in ((s, s), (t, t), (s, t)))
        return (ss.mean(dim=(1, 2)) + tt.mean(dim=(1, 2)) - 2 * st.mean(dim=(1, 2))).mean()
