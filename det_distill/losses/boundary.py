"""Samples moved to the teacher's decision boundary (Heo et al., AAAI 2019).

Why no loss: there the student learns by `hinton.soft_kl`, as anywhere else. This file finds the samples.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from det_distill.fp32 import common, full, no_autocast


def base_samples(student: Tensor, teacher: Tensor, labels: Tensor, num: int = 64) -> Tensor:
    r"""The samples worth moving: both nets are right, and differ most about the wrong classes.

    The gap is :math:`\sum_{c \ne y} (P^t_c - P^s_c)^2` with P the softmax of the logits, without temperature.

    Args:
        student: (N, K) logits; no gradient comes from here.
        teacher: (N, K) logits of the same samples.
        labels: (N,), int64, the true classes.
        num: The most samples to give.

    Returns:
        (M,), int64, M <= num indices into the N, the largest gap first, the lower index first among equals.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1805.05532; bhheo/BSS_distillation@586b141.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [2.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
        >>> base_samples(student, teacher, torch.zeros(3, dtype=torch.long))  # the student errs on the last
        tensor([1, 0])
    """
    if student.dim() != 2 or teacher.shape != student.shape or labels.shape != student.shape[:1]:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(labels.shape)}"
        raise ValueError(f"want equal (N, K) logits and (N,) labels, got {got}")
    student, teacher = full(student.detach(), teacher)
    right = (student.argmax(dim=1) == labels) & (teacher.argmax(dim=1) == labels)
    base = right.nonzero().squeeze(1)
    gap = (teacher[base].softmax(dim=1) - student[base].softmax(dim=1)).square()
    wrong = gap.scatter(1, labels[base, None], 0).sum(dim=1)
    return base[wrong.argsort(descending=True, stable=True)[:num]]


def sample_targets(teacher: Tensor, labels: Tensor) -> Tensor:
    """A class to move each sample towards, drawn by the teacher's probabilities of all but the true one.

    Args:
        teacher: (N, K) logits, K >= 2.
        labels: (N,), int64, the true classes, which are never drawn.

    Returns:
        (N,), int64 classes, drawn with torch's generator of the device.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts), or there is no second class to draw.

    Source:
        arXiv:1805.05532; bhheo/BSS_distillation@586b141, which leaves out the teacher's first: the same on bases.

    Example:
        >>> sample_targets(torch.zeros(1, 2), torch.tensor([0]))
        tensor([1])
    """
    if teacher.dim() != 2 or labels.shape != teacher.shape[:1] or teacher.shape[1] < 2:
        got = f"{tuple(teacher.shape)}, {tuple(labels.shape)}"
        raise ValueError(f"want (N, K) logits with K >= 2 and (N,) labels, got {got}")
    logits = teacher.detach().to(common(teacher))
    # Before the softmax, or a teacher sure of the label would leave nothing but zeros to draw from.
    others = logits.scatter(1, labels[:, None], -torch.inf).softmax(dim=1)
    return others.multinomial(1).squeeze(1)


def boundary_samples(
    features: Tensor,
    classify: Callable[[Tensor], Tensor],
    base: Tensor,
    target: Tensor,
    steps: int = 10,
    rate: float = 0.3,
    eps: float = 1e-4,
    clamp: float | None = None,
) -> Tensor:
    r"""Moves each sample towards another class until its class changes.

    .. math:: x \leftarrow x + \text{rate} \, (s_b - s_k + \text{eps}) \frac{g}{\lVert g \rVert}, \quad
        g = \nabla_x (s_k - s_b)

    with s the logits of x, b its class and k the other. The norm of g divides once, over all of a sample; a sample
    with no gradient, or whose class is not b (any more), stays where it is.

    Args:
        features: (N, ...), images or features of RoIs; detached here.
        classify: From (N, ...) to (N, K) logits, each sample by itself. It is given at least fp32, and no autocast.
        base: (N,), int64, the classes to leave.
        target: (N,), int64, the classes to approach.
        steps: The most steps a sample takes.
        rate: Share of the gap between the two scores that a step is long.
        eps: Added to that gap.
        clamp: Bound on the absolute value of what has moved; the code's is 2.5, for normalised images.

    Returns:
        (N, ...), at least fp32, detached. No `.grad` is left anywhere, and calls under `no_grad` do too.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1805.05532; bhheo/BSS_distillation@586b141. That the features of RoIs move is our choice.

    Example:
        >>> once = dict(base=torch.tensor([0]), target=torch.tensor([1]), steps=1)
        >>> boundary_samples(torch.ones(1, 1), lambda x: torch.cat((x, -x), dim=1), **once)  # 1 - 0.3 * 2.0001
        tensor([[0.4000]])
    """
    if features.dim() < 2 or not base.shape == target.shape == features.shape[:1]:
        got = f"{tuple(features.shape)}, {tuple(base.shape)}, {tuple(target.shape)}"
        raise ValueError(f"want (N, ...) features and (N,) classes, twice, got {got}")
    moved = features.detach().to(common(features)).clone()
    for _ in range(steps if len(moved) else 0):
        with torch.enable_grad(), no_autocast(moved):
            logits = classify(moved.requires_grad_())
            if logits.dim() != 2 or len(logits) != len(moved):
                raise ValueError(f"want (N, K) logits of {len(moved)} samples, got {tuple(logits.shape)}")
            gap = (logits.gather(1, base[:, None]) - logits.gather(1, target[:, None])).squeeze(1)
            (uphill,) = torch.autograd.grad(-gap.sum(), moved)
        still = logits.argmax(dim=1) == base
        if not still.any():  # the only wait for the device
            break
        length = rate * (gap.detach() + eps)
        ahead = moved.detach() + (length[:, None] * normalize(uphill.flatten(1), dim=1)).view_as(moved)
        if clamp is not None:
            ahead = ahead.clamp(-clamp, clamp)
        moved = torch.where(still.view(-1, *[1] * (moved.dim() - 1)), ahead, moved.detach())
    return moved.detach()
