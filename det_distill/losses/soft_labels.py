"""Soft labels that weigh the background more (Chen et al., NIPS 2017)."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from det_distill.fp32 import full


def weighted_soft_cross_entropy(
    student: Tensor, teacher: Tensor, class_weights: Tensor, temperature: float = 1.0
) -> Tensor:
    r"""Cross entropy with the teacher's distribution, class terms weighted, per box.

    .. math:: -\frac{1}{\max(1, N)} \sum_n \sum_c w_c\, P^t_{nc} \log P^s_{nc}, \quad P = \mathrm{softmax}(z / T)

    N counts boxes; classes are summed, never averaged. The weights multiply class terms, not boxes, so the
    loss is least at P_s proportional to w P_t and not at P_t; it is not 0 there. There is no factor T^2.

    Args:
        student: (N, K + 1) logits.
        teacher: (N, K + 1) logits of the same boxes; detached here.
        class_weights: (K + 1,), the paper's are 1.5 for the background and 1 for the rest.
        temperature: T > 0, divides both logits; the paper's is 1.

    Returns:
        Scalar, at least fp32, nats per box; a differentiable 0 without boxes.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        Chen et al., NIPS 2017.

    Example:
        >>> import torch
        >>> even = torch.zeros(1, 2)
        >>> weighted_soft_cross_entropy(even, even, torch.tensor([1.5, 1.0]))  # (1.5 + 1) / 2 * log 2
        tensor(0.8664)
    """
    if student.dim() != 2 or teacher.shape != student.shape or class_weights.shape != student.shape[1:]:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(class_weights.shape)}"
        raise ValueError(f"want equal (N, K + 1) logits and (K + 1,) class weights, got {got}")
    student, teacher = full(student, teacher)
    target = class_weights.to(student.dtype) * (teacher / temperature).softmax(dim=1)
    return -(target * (student / temperature).log_softmax(dim=1)).sum() / max(1, len(student))


def weighted_soft_binary(
    student: Tensor, teacher: Tensor, background_weight: float, temperature: float = 1.0
) -> Tensor:
    r"""The same for objectness, where one logit tells object from background, per anchor.

    .. math:: -\frac{1}{\max(1, M)} \sum_m p_m \log \sigma(z_m / T) + w (1 - p_m) \log(1 - \sigma(z_m / T))

    with p the teacher's :math:`\sigma(\cdot / T)`. M counts anchors; finite at any finite logit.

    Args:
        student: (M,) logits, positive for objects.
        teacher: (M,) logits of the same anchors; detached here.
        background_weight: w; the paper's is 1.5.
        temperature: T > 0, divides both logits; the paper's is 1.

    Returns:
        Scalar, at least fp32, nats per anchor; a differentiable 0 without anchors.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        Chen et al., NIPS 2017, for two classes of which one logit is 0.

    Example:
        >>> import torch
        >>> weighted_soft_binary(torch.zeros(1), torch.zeros(1), background_weight=1.5)
        tensor(0.8664)
    """
    if student.dim() != 1 or teacher.shape != student.shape:
        raise ValueError(f"want equal (M,) logits, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    z, t = (logits / temperature for logits in full(student, teacher))
    background = background_weight * (-t).sigmoid() * logsigmoid(-z)
    return -(t.sigmoid() * logsigmoid(z) + background).sum() / max(1, len(student))
