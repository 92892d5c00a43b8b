"""Triplet loss with a margin that the teacher drives (Feng et al., ICIP 2020)."""

import torch
from torch import Tensor

from det_distill.fp32 import common, full
from det_distill.losses._geometry import distances, unit


def triplets(labels: Tensor) -> Tensor:
    """All (anchor, positive, negative) of a batch: another item of the anchor's label, and one of another label.

    Args:
        labels: (N,), of items.

    Returns:
        (T, 3), int64, indices of items in ascending order; T = 0 where there is one label, or no label twice.

    Raises:
        ValueError: If labels are no vector.

    Example:
        >>> triplets(torch.tensor([4, 4, 7]))
        tensor([[0, 1, 2],
                [1, 0, 2]])
    """
    if labels.dim() != 1:
        raise ValueError(f"want (N,) labels, got {tuple(labels.shape)}")
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return ((same & ~itself)[:, :, None] & ~same[:, None, :]).nonzero()


def margins(gap: Tensor, least: float, most: float) -> Tensor:
    r"""How far apart a negative should lie beyond the positive, by how far apart the teacher holds them.

    .. math:: F(d) = m_{least} + (m_{most} - m_{least}) \frac{d}{\max d}, \quad d = \max(gap, 0)

    Args:
        gap: (T,), teacher's distance of the negative minus that of the positive; detached here.
        least: F where the teacher has the positive no nearer than the negative, and of all if it has none nearer.
        most: F of the batch's greatest gap.

    Returns:
        (T,), at least fp32, between least and most.

    Raises:
        ValueError: If not 0 <= least <= most.

    Example:
        >>> margins(torch.tensor([-1.0, 0.5, 1]), least=0.2, most=0.5)
        tensor([0.2000, 0.3500, 0.5000])
    """
    if not 0 <= least <= most:
        raise ValueError(f"want 0 <= least <= most, got least={least}, most={most}")
    clipped = gap.detach().to(common(gap)).clamp(min=0)
    if not len(clipped):
        return clipped
    greatest = clipped.max()
    return least + (most - least) * (clipped / greatest.masked_fill(greatest == 0, torch.inf))


def driven_margin(student: Tensor, teacher: Tensor, triplets: Tensor, least: float = 0.2, most: float = 0.5) -> Tensor:
    r"""Triplet loss whose margin is wider where the teacher tells the negative better from the positive.

    .. math:: \frac{1}{\max(1, T)} \sum_{(a, p, n)} \max(D^s_{ap} - D^s_{an} + F(D^t_{an} - D^t_{ap}),\, 0), \quad
        D_{ij} = \Big\lVert \frac{x_i}{\lVert x_i \rVert} - \frac{x_j}{\lVert x_j \rVert} \Big\rVert

    T counts all triplets, those at 0 too; F is `margins`. The teacher sets the margin alone: with least = most this
    is the plain triplet loss. An embedding of 0 stays 0 and has no gradient.

    Args:
        student: (N, d_s), embeddings.
        teacher: (N, d_t), embeddings of the same items; detached here.
        triplets: (T, 3), int64, rows: anchor, positive, negative.
        least: Least margin; its number, as that of most, is our choice.
        most: Greatest margin.

    Returns:
        Scalar, at least fp32, distance on the unit sphere; a differentiable 0 without triplets.

    Raises:
        ValueError: If shapes disagree, triplets are not int64, or not 0 <= least <= most.

    Source:
        arXiv:1905.04457; no code is public. That F is linear in the gap over the batch's greatest is our reading.

    Example:
        >>> apart = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
        >>> driven_margin(torch.ones(3, 2), apart, torch.tensor([[0, 1, 2]]))  # 0 - 0 + most
        tensor(0.5000)
    """
    matrices = student.dim() == teacher.dim() == triplets.dim() == 2
    if not matrices or len(student) != len(teacher) or triplets.shape[1] != 3:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(triplets.shape)}"
        raise ValueError(f"want (N, d) embeddings of equal N and (T, 3) triplets, got {got}")
    if triplets.dtype != torch.int64:
        raise ValueError(f"want int64 triplets, got {triplets.dtype}")
    student, teacher = full(student, teacher)
    anchor, positive, negative = triplets.unbind(dim=1)
    ours, theirs = distances(unit(student)), distances(unit(teacher))  # once per pair; triplets are N times as many
    margin = margins(theirs[anchor, negative] - theirs[anchor, positive], least, most)
    return (ours[anchor, positive] - ours[anchor, negative] + margin).clamp(min=0).sum() / max(1, len(triplets))
