"""Relational distillation: distances and angles among items, not the items (Park et al., CVPR 2019)."""

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from det_distill.fp32 import full, no_autocast
from det_distill.losses._geometry import NEGLIGIBLE, distances, unit


def _over_mean(points: Tensor) -> Tensor:
    apart = distances(points)
    pairs = len(points) * (len(points) - 1)
    mean = apart.sum() / max(1, pairs)
    return apart / mean.masked_fill(mean <= NEGLIGIBLE, torch.inf)


def _cosines(points: Tensor) -> Tensor:
    """(N, N, N), of the angle at i between j and k."""
    directions = unit(points[None] - points[:, None])
    with no_autocast(points):
        return torch.bmm(directions, directions.transpose(1, 2))


def _checked(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):
        raise ValueError(f"want (N, d) embeddings of equal N, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    return full(student, teacher)


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber gap (delta 1) between the pair distances of both nets, each over its own mean.

    .. math:: \frac{1}{\max(1, N^2)} \sum_{ij} h(\psi^s_{ij} - \psi^t_{ij}), \quad
        \psi_{ij} = \frac{d_{ij}}{\mu}, \quad \mu = \frac{1}{N (N - 1)} \sum_{ij} d_{ij}, \quad
        d_{ij} = \lVert x_i - x_j \rVert

    The mean is over all N^2 entries, the N zeros of the diagonal too, as in the official code. :math:`\mu` is over
    all off-diagonal pairs, and those that coincide count: the official code asks for distances above 0, but lifts
    those of coinciding points to 1e-6 before. Where all points of a net coincide, its :math:`\psi` is 0 (there: 1).

    Args:
        student: (N, d_s), embeddings, not normalised.
        teacher: (N, d_t), embeddings of the same items; detached here.

    Returns:
        Scalar, at least fp32, no unit; a differentiable 0 for N < 2.

    Raises:
        ValueError: If these are no matrices of equally many rows.

    Source:
        arXiv:1904.05068; lenscloth/RKD@0a6c3c0.

    Example:
        >>> distance_relation(torch.tensor([[0.0], [1], [2]]), torch.tensor([[0.0], [1], [3]]))  # 0.125 / 9
        tensor(0.0139)
    """
    student, teacher = _checked(student, teacher)
    return smooth_l1_loss(_over_mean(student), _over_mean(teacher), reduction="sum") / max(1, len(student) ** 2)


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber gap (delta 1) between the cosines of all angles among three items.

    .. math:: \frac{1}{N^3} \sum_{ijk} h(\cos^s_{ijk} - \cos^t_{ijk}), \quad
        \cos_{ijk} = \langle e_{ij}, e_{ik} \rangle, \quad e_{ij} = \frac{x_j - x_i}{\lVert x_j - x_i \rVert}

    The mean is over all N^3 entries, as in the official code, though where two of i, j, k are one the cosine is 0
    or 1 in both nets. Points that coincide have e = 0 and no gradient. Memory grows with N^2 d and N^3.

    Args:
        student: (N, d_s), embeddings, not normalised.
        teacher: (N, d_t), embeddings of the same items; detached here.

    Returns:
        Scalar, at least fp32, no unit; a differentiable 0 for N < 3.

    Raises:
        ValueError: If these are no matrices of equally many rows.

    Source:
        arXiv:1904.05068; lenscloth/RKD@0a6c3c0.

    Example:
        >>> corner, line = torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[0.0, 0], [1, 0], [2, 0]])
        >>> angle_relation(line, corner)  # 3.5 / 27
        tensor(0.1296)
    """
    student, teacher = _checked(student, teacher)
    if len(student) < 3:
        return 0 * student.sum()
    return smooth_l1_loss(_cosines(student), _cosines(teacher))
