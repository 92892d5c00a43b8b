"""Class probabilities of several teachers, of which some know only some classes (Hinton et al., 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from det_distill.losses._kept import kept
from det_distill.losses.ensembles import mean_of_sigmoids, mean_of_teachers, softened, softened_sigmoids
from det_distill.losses.hinton import soft_binary_kl, soft_kl, specialist_kl

Shared = Sequence[tuple[int, int]]


def of_softmax(
    student: Tensor,
    general: Sequence[Tensor],
    special: Sequence[tuple[Tensor, Shared]],
    temperature: float,
    mean: str = "arithmetic",
) -> Tensor:
    r"""Divergence from the averaged teachers of all classes, plus that from each specialist where it is asked.

    .. math:: KL(p_g, q) + \sum_{m \in A} KL(p_m, q)

    A specialist is asked about the boxes whose class the averaged teachers see among its own, or about all boxes if
    there is no teacher of all classes. Means are over all N boxes.

    Args:
        student: (N, K + 1) logits.
        general: (N, K + 1) logits of each teacher of all classes; detached here.
        special: Of each other teacher its (N, D) logits and the pairs (its class, the student's); detached here.
        temperature: T > 0; T^2 multiplies the value, once.
        mean: Of the teachers of all classes: "arithmetic" or "geometric".

    Returns:
        Scalar, at least fp32; a differentiable 0 without boxes.

    Raises:
        ValueError: If a teacher judges other boxes, or one of all classes has other classes (nothing broadcasts), or
            the mean is unknown.

    Source:
        arXiv:1503.02531, sections 2 and 5, where the sum serves inference.

    Example:
        >>> of_softmax(torch.zeros(1, 2), [torch.tensor([[2.0, 0.0]])] * 2, [], temperature=2.0)
        tensor(0.4438)
    """
    parts, seen = [], None
    if general:
        target = mean_of_teachers([softened(its, temperature) for its in general], mean)
        parts, seen = [soft_kl(student, target, temperature)], target.argmax(dim=1)[:, None]
    for its, shared in special:
        on = None if seen is None else torch.cat([seen == own for _, own in shared], dim=1).any(dim=1)
        parts.append(specialist_kl(student, its, shared, temperature, on))
    return sum(parts[1:], parts[0])


def of_sigmoids(
    student: Tensor,
    general: Sequence[Tensor],
    special: Sequence[tuple[Tensor, Shared]],
    temperature: float,
    mean: str = "arithmetic",
) -> Tensor:
    """The same for (N, K) logits of classes that are a Bernoulli each: a specialist teaches the classes it shares.

    Example:
        >>> of_sigmoids(torch.zeros(1, 2), [], [(torch.tensor([[9.0]]), [(0, 1)])], temperature=1.0)  # log 2, nearly
        tensor(0.6919)
    """
    parts = []
    if general:
        target = mean_of_sigmoids([softened_sigmoids(its, temperature) for its in general], mean)
        parts.append(soft_binary_kl(student, target, temperature))
    for logits, shared in special:
        its, own = zip(*shared, strict=True)
        target = softened_sigmoids(logits.index_select(1, kept(its, logits.device)), temperature)
        parts.append(soft_binary_kl(student.index_select(1, kept(own, student.device)), target, temperature))
    return sum(parts[1:], parts[0])
