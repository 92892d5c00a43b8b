"""Attention transfer: where a map is active, whatever its channels are (Zagoruyko and Komodakis, ICLR 2017)."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from det_distill.fp32 import common, full

REDUCTIONS = ("sum", "mean", "norm")


def energy(maps: Tensor, power: float = 2.0) -> Tensor:
    r"""How active each cell is: :math:`\sum_c |A_c|^p`, over channels and with no normaliser.

    Args:
        maps: (B, C, H, W), raw activation units.
        power: p >= 1; below, the slope at an activation of 0 is infinite.

    Returns:
        (B, H, W), at least fp32, activation to the power p.

    Raises:
        ValueError: If the maps have not four axes, or the power is below 1.

    Source:
        arXiv:1612.03928; szagoruyko/attention-transfer@893df54.

    Example:
        >>> energy(torch.tensor([3.0, -4.0]).view(1, 2, 1, 1))  # 9 + 16
        tensor([[[25.]]])
    """
    if maps.dim() != 4:
        raise ValueError(f"want (B, C, H, W) maps, got {tuple(maps.shape)}")
    if power < 1:
        raise ValueError(f"power={power} is below 1")
    return maps.to(common(maps)).abs().pow(power).sum(dim=1)


def attention_transfer(student: Tensor, teacher: Tensor, power: float = 2.0, reduction: str = "sum") -> Tensor:
    r"""The gap between the energy maps, each scaled to unit L2 norm per image.

    .. math:: \frac{1}{\max(1, B)} \sum_b \sum_j (q^s_{bj} - q^t_{bj})^2, \quad q = Q / \lVert Q \rVert_2

    with Q the `energy` of the HW cells j of one image. That is reduction "sum", at most 2 per image at any size
    of map. "mean" divides by B HW, so a weight for it grows with the map; "norm" takes the square root per image.
    Where the sizes differ, the larger energy map is average-pooled to the smaller height and width, before it is
    scaled. An energy map of 0 stays 0.

    Args:
        student: (B, C, H, W), raw activation units.
        teacher: (B, C', H', W'), of the same images; detached here.
        power: p >= 1.
        reduction: "sum" (our choice), "mean" (the authors' code, with a weight of 1e3 on maps up to 32 x 32) or
            "norm" (the paper).

    Returns:
        Scalar, at least fp32, no unit; a differentiable 0 without cells.

    Raises:
        ValueError: If the maps are no (B, C, H, W) of one B, the power is below 1, or the reduction is unknown.

    Source:
        arXiv:1612.03928, without its beta / 2; szagoruyko/attention-transfer@893df54.

    Example:
        >>> student, teacher = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.tensor([4.0, 3.0]).view(1, 1, 1, 2)
        >>> attention_transfer(student, teacher)  # 2 * (16 - 9)^2 / (9^2 + 16^2)
        tensor(0.2908)
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is none of {', '.join(map(repr, REDUCTIONS))}")
    if student.dim() != 4 or teacher.dim() != 4 or len(student) != len(teacher):
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}"
        raise ValueError(f"want (B, C, H, W) maps of the same B images, got {got}")
    student, teacher = full(student, teacher)
    energies = energy(student, power), energy(teacher, power)
    if 0 in energies[0].shape or 0 in energies[1].shape:
        return student[:0].sum()
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    s, t = (normalize(adaptive_avg_pool2d(one, size).flatten(1), dim=1) for one in energies)  # (B, HW)
    if reduction == "mean":
        return (s - t).square().mean()
    per_image = torch.linalg.vector_norm(s - t, dim=1) if reduction == "norm" else (s - t).square().sum(dim=1)
    return per_image.mean()
