"""Structured knowledge of dense predictions: cell by cell, and pair by pair (Liu et al., CVPR 2019)."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, max_pool2d

from det_distill.fp32 import full, no_autocast


def pixel_wise(student: Tensor, teacher: Tensor, sigmoid: bool = False) -> Tensor:
    r"""Cross entropy with the teacher's distribution in every cell.

    .. math:: -\frac{1}{\max(1, HW)} \sum_{bkhw} p^t_{bkhw} \log p^s_{bkhw}

    HW counts the cells of *one* image: like the authors' code, the loss is a sum over images. At s = t it is the
    entropy of the teacher, where the gradient is 0.

    Args:
        student: (B, K, H, W) logits.
        teacher: (B, K, H, W) logits of the same images; detached here.
        sigmoid: Whether each of the K is a binary question (their cross entropies are summed), or all are one
            softmax.

    Returns:
        Scalar, at least fp32, nats per cell; a differentiable 0 without images, classes or cells.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1903.04197; irfanICMLL/structure_knowledge_distillation@ce208e1.

    Example:
        >>> even = torch.zeros(1, 2, 1, 1)
        >>> pixel_wise(even, even), pixel_wise(even, even, sigmoid=True)  # log 2, 2 log 2
        (tensor(0.6931), tensor(1.3863))
    """
    if student.dim() != 4 or teacher.shape != student.shape:
        raise ValueError(f"want equal (B, K, H, W) logits, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    student, teacher = full(student, teacher)
    cells = max(1, student.shape[2] * student.shape[3])
    if sigmoid:
        return binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="sum").div(cells)
    return cross_entropy(student, teacher.softmax(dim=1), reduction="sum").div(cells)


def _affinity(maps: Tensor, kernel: list[int]) -> Tensor:
    """(B, nodes, nodes) cosines; norms are constants, so the gradient has a part along the feature."""
    nodes = max_pool2d(maps, kernel, ceil_mode=True).flatten(2)  # (B, C, nodes)
    norm = torch.linalg.vector_norm(nodes, dim=1, keepdim=True).detach()
    unit = nodes.div(norm.clamp(min=1e-6)).masked_fill(norm <= 1e-6, 0)  # a node of 0 is like no other
    with no_autocast(unit):
        return unit.transpose(1, 2) @ unit


def pair_wise(student: Tensor, teacher: Tensor, scale: float = 0.5) -> Tensor:
    r"""The squared gap between the cosines of all pairs of nodes, per pair and image.

    .. math:: \frac{1}{\max(1, B)\, n^2} \sum_b \sum_{ij} (a^s_{bij} - a^t_{bij})^2, \quad
        a_{ij} = \frac{f_i \cdot f_j}{\lVert f_i \rVert \lVert f_j \rVert}

    n counts the nodes of one image: cells after max pooling with a kernel and stride of max(1, int(scale * size))
    per axis, the last kernel cut at the border. The pairs are ordered, a node's with itself included. The norms are
    detached, as in the code, so this is no true gradient: it is not orthogonal to the feature.

    Args:
        student: (B, C, H, W), raw activation units.
        teacher: (B, C', H, W), of the same images and size; detached here.
        scale: 0 < scale <= 1, side of the pooling kernel as a share of the map's; 0.5 leaves 2 x 2 nodes of even
            sizes.

    Returns:
        Scalar, at least fp32, no unit; a differentiable 0 without images, channels or cells.

    Raises:
        ValueError: If the maps are no (B, C, H, W) of one B, H and W, or the scale is out of range.

    Source:
        arXiv:1903.04197; irfanICMLL/structure_knowledge_distillation@ce208e1.

    Example:
        >>> apart = torch.eye(2).view(1, 2, 1, 2)  # two nodes at right angles
        >>> pair_wise(torch.ones_like(apart), apart)  # two of the four pairs are off by 1
        tensor(0.5000)
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale={scale} is not in (0, 1]")
    if student.dim() != 4 or len(student) != len(teacher) or student.shape[2:] != teacher.shape[2:]:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}"
        raise ValueError(f"want (B, C, H, W) maps of equal B, H and W, got {got}")
    student, teacher = full(student, teacher)
    if 0 in student.shape or 0 in teacher.shape:
        return student[:0].sum()
    kernel = [max(1, int(scale * size)) for size in student.shape[2:]]
    return (_affinity(student, kernel) - _affinity(teacher, kernel)).square().mean()
