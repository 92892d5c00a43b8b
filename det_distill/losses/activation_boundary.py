"""Activation boundaries: which neurons fire, not how strongly (Heo et al., AAAI 2019)."""

import torch
from torch import Tensor

from det_distill.fp32 import full


def activation_boundary(student: Tensor, teacher: Tensor, margin: float = 1.0) -> Tensor:
    r"""How far each neuron is from the teacher's side of zero by a margin, squared, per image.

    .. math:: \frac{1}{\max(1, B)} \sum_{bchw} \max(0, \mu - \mathrm{sgn}(t)\, s)^2_{bchw}, \quad
        \mathrm{sgn}(0) = -1

    B counts images; neurons are summed, never averaged. The code's factor of 3 / 1000 and its weights per layer
    (1, 1/2, 1/4, .. from the deepest) are the term's weight and not in here. Not 0 at s = t unless |t| >= mu.

    Args:
        student: (B, C, H, W), adapted features *before* the ReLU, raw activation units.
        teacher: (B, C, H, W), before or after the ReLU, for only the sign is used; detached here.
        margin: mu, in activation units of the student.

    Returns:
        Scalar, at least fp32, activation squared; a differentiable 0 without images, channels or cells.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1811.03233; bhheo/AB_distillation@a7701d3.

    Example:
        >>> activation_boundary(torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -3.0))  # (0.5 + 1)^2
        tensor(2.2500)
    """
    if student.dim() != 4 or teacher.shape != student.shape:
        raise ValueError(f"want equal (B, C, H, W) maps, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    student, teacher = full(student, teacher)
    lacking = margin - torch.where(teacher > 0, student, -student)
    return lacking.clamp(min=0).square().sum() / max(1, len(student))
