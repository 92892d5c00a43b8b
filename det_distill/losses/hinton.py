"""Softened class probabilities as targets (Hinton, Vinyals and Dean, 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import kl_div, logsigmoid

from det_distill.fp32 import full
from det_distill.losses._kept import kept
from det_distill.losses.ensembles import softened, with_dustbin


def soft_kl(student: Tensor, target: Tensor, temperature: float, groups: Sequence[int] | None = None) -> Tensor:
    r"""Divergence of the student's softened distribution from a soft target, per box, times the temperature squared.

    .. math:: \frac{T^2}{\max(1, N)} \sum_n \sum_g q_{ng} \log \frac{q_{ng}}{P_{ng}}, \quad
        P_{ng} = \sum_{c \in g} \mathrm{softmax}(z_n / T)_c

    N counts boxes; classes are summed, never averaged. The gradient in z is T (P - q) / N, so it neither vanishes
    nor grows with T. With `groups` a specialist teaches what it knows: the classes it lumps together, its dustbin,
    are summed for the student too.

    Args:
        student: (N, C) logits.
        target: (N, G) probabilities at the same temperature, rows sum to 1; detached here. 0 log 0 is 0.
        temperature: T > 0.
        groups: C numbers, the target class of each student class. None where they are the same, G = C.

    Returns:
        Scalar, at least fp32, nats times T squared per box; a differentiable 0 without boxes.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts), a group lies outside [0, G), or a target class has no
            student class.

    Source:
        arXiv:1503.02531, section 2 and, for groups, section 5.3.

    Example:
        >>> soft_kl(torch.zeros(1, 2), torch.tensor([[0.731059, 0.268941]]), temperature=2.0)  # teacher logits 2, 0
        tensor(0.4438)
    """
    classes = student.shape[1:] if groups is None else target.shape[1:]
    if student.dim() != 2 or target.dim() != 2 or target.shape != (len(student), *classes):
        raise ValueError(
            f"want (N, C) logits and (N, C) probabilities, or (N, G) with groups,"
            f" got {tuple(student.shape)}, {tuple(target.shape)}"
        )
    student, target = full(student, target)
    log_student = (student / temperature).log_softmax(dim=1)
    if groups is not None:
        members = _members(groups, student, target.shape[1])
        log_student = log_student[:, None].masked_fill(~members, -torch.inf).logsumexp(dim=2)  # (N, G)
    return _divergence(log_student, target, temperature)


def specialist_kl(
    student: Tensor, teacher: Tensor, shared: Sequence[tuple[int, int]], temperature: float, on: Tensor | None = None
) -> Tensor:
    r"""`soft_kl` from a teacher that shares some of the student's classes; the rest of either is one class, a dustbin.

    Args:
        student: (N, C) logits, background among the classes.
        teacher: (N, D) logits of the same boxes, likewise; detached here.
        shared: Pairs of the teacher's class and the student's.
        temperature: T > 0.
        on: (N,), bool, where the specialist has a say; None is everywhere. The mean is over all N boxes all the same.

    Returns:
        Scalar, at least fp32; a differentiable 0 where it has no say.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1503.02531, section 5.

    Example:
        >>> third = torch.zeros(1, 3)  # 1/3 on the shared class, 2/3 on the rest
        >>> half = torch.zeros(1, 2)  # log(3 / 2) / 2 + log(3 / 4) / 2
        >>> specialist_kl(third, half, [(1, 0)], temperature=1.0)
        tensor(0.0589)
    """
    asked = len(student) if on is None else len(on)
    if student.dim() != 2 or teacher.dim() != 2 or not len(student) == len(teacher) == asked:
        raise ValueError(f"want (N, C) and (N, D) logits, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    its, own = [pair[0] for pair in shared], [pair[1] for pair in shared]
    groups = [own.index(k) if k in own else len(shared) for k in range(student.shape[1])]
    target = with_dustbin(softened(teacher, temperature), its)
    return soft_kl(student, target if on is None else target.masked_fill(~on[:, None], 0), temperature, groups)


def soft_binary_kl(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    r"""`soft_kl` where each class is a yes or no of its own.

    .. math:: \frac{T^2}{\max(1, N)} \sum_n \sum_k q \log \frac{q}{\sigma(z / T)} +
        (1 - q) \log \frac{1 - q}{1 - \sigma(z / T)}

    N counts boxes; classes are summed, never averaged. Finite at any finite logit.

    Args:
        student: (N, K) logits.
        target: (N, K) probabilities at the same temperature, each in [0, 1]; detached here. 0 log 0 is 0.
        temperature: T > 0.

    Returns:
        Scalar, at least fp32, nats times T squared per box; a differentiable 0 without boxes.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1503.02531, for two classes of which one logit is 0.

    Example:
        >>> soft_binary_kl(torch.zeros(1, 1), torch.ones(1, 1), temperature=1.0)  # log 2
        tensor(0.6931)
    """
    if student.dim() != 2 or target.shape != student.shape:
        got = f"{tuple(student.shape)}, {tuple(target.shape)}"
        raise ValueError(f"want (N, K) logits and equal (N, K) probabilities, got {got}")
    student, target = full(student, target)
    z = student / temperature
    both = torch.stack((logsigmoid(z), logsigmoid(-z)), dim=2)  # (N, K, 2), yes and no
    return _divergence(both, torch.stack((target, 1 - target), dim=2), temperature)


def _divergence(log_student: Tensor, target: Tensor, temperature: float) -> Tensor:
    log_student = log_student.masked_fill(target == 0, 0)  # 0 times -inf, too, is 0
    return temperature**2 * kl_div(log_student, target, reduction="sum") / max(1, len(target))


def _members(groups: Sequence[int], student: Tensor, targets: int) -> Tensor:
    """(G, C), bool, true where the class belongs to the group."""
    if len(groups) != student.shape[1] or {*groups} != {*range(targets)}:  # one group each, no group bare
        raise ValueError(
            f"want a group of 0 to {targets - 1} for each of {student.shape[1]} classes, none of them bare, got "
            f"{list(groups)}"
        )
    return kept(tuple(groups), student.device) == torch.arange(targets, device=student.device)[:, None]
