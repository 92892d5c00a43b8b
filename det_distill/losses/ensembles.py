"""Soft targets of one teacher or several (Hinton, Vinyals and Dean, 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from det_distill.fp32 import common
from det_distill.losses._kept import kept


def softened(logits: Tensor, temperature: float) -> Tensor:
    """The class probabilities of logits divided by a temperature.

    Args:
        logits: (N, K + 1), of a teacher; detached here.
        temperature: T > 0.

    Returns:
        (N, K + 1) probabilities, at least fp32.

    Raises:
        ValueError: If the logits are not (N, K + 1).

    Source:
        arXiv:1503.02531, eq. 1.

    Example:
        >>> softened(torch.tensor([[2.0, 0.0]]), temperature=2.0)
        tensor([[0.7311, 0.2689]])
    """
    if logits.dim() != 2:
        raise ValueError(f"want (N, K + 1) logits, got {tuple(logits.shape)}")
    return (logits.detach().to(common(logits)) / temperature).softmax(dim=1)


def softened_sigmoids(logits: Tensor, temperature: float) -> Tensor:
    """The same for classes that are a Bernoulli each, without a background: (N, K) logits to (N, K) probabilities.

    Example:
        >>> softened_sigmoids(torch.tensor([[2.0, 0.0]]), temperature=2.0)
        tensor([[0.7311, 0.5000]])
    """
    if logits.dim() != 2:
        raise ValueError(f"want (N, K) logits, got {tuple(logits.shape)}")
    return (logits.detach().to(common(logits)) / temperature).sigmoid()


def with_dustbin(probabilities: Tensor, chosen: Sequence[int]) -> Tensor:
    """A specialist's distribution: the classes chosen, in their order, and behind them one for all the rest.

    Args:
        probabilities: (N, C), rows sum to 1.
        chosen: S of the C classes.

    Returns:
        (N, S + 1), rows sum to 1.

    Source:
        arXiv:1503.02531, section 5: a specialist's classes and its dustbin.

    Example:
        >>> with_dustbin(torch.tensor([[0.5, 0.2, 0.2, 0.1]]), chosen=[2, 0])
        tensor([[0.2000, 0.5000, 0.3000]])
    """
    rest = tuple(index for index in range(probabilities.shape[1]) if index not in chosen)
    own, others = (probabilities.index_select(1, kept(one, probabilities.device)) for one in (tuple(chosen), rest))
    return torch.cat((own, others.sum(dim=1, keepdim=True)), dim=1)


def mean_of_teachers(probabilities: Sequence[Tensor], mean: str) -> Tensor:
    r"""One distribution over classes from those of M teachers, each taken at the temperature of the loss.

    .. math:: \frac{1}{M} \sum_m p_m \quad\text{or}\quad \frac{\prod_m p_m^{1/M}}{\sum_c \prod_m p_{mc}^{1/M}}

    A probability of 0 counts as the least positive number in the geometric mean, so that teachers who rule out
    all each other's classes still have a mean. One teacher comes back as it is.

    Args:
        probabilities: One (N, K) per teacher, rows sum to 1; detached here.
        mean: "arithmetic" or "geometric".

    Returns:
        (N, K), at least fp32, rows sum to 1.

    Raises:
        ValueError: If there is no teacher, shapes disagree (nothing broadcasts), or the mean is unknown.

    Source:
        arXiv:1503.02531, sections 2 and 3.

    Example:
        >>> mean_of_teachers([torch.tensor([[0.8, 0.2]]), torch.tensor([[0.4, 0.6]])], "geometric")
        tensor([[0.6202, 0.3798]])
    """
    stacked = _stacked(probabilities, mean)  # (M, N, K)
    if len(stacked) == 1 or mean == "arithmetic":
        return stacked.mean(dim=0)
    return stacked.clamp(min=torch.finfo(stacked.dtype).tiny).log().mean(dim=0).softmax(dim=1)


def mean_of_sigmoids(probabilities: Sequence[Tensor], mean: str) -> Tensor:
    r"""`mean_of_teachers` where each class is a yes or no of its own.

    .. math:: \frac{1}{M} \sum_m p_m \quad\text{or}\quad
        \frac{\prod_m p_m^{1/M}}{\prod_m p_m^{1/M} + \prod_m (1 - p_m)^{1/M}}

    The geometric mean is that of the logits. Probabilities of 0 and 1 count as their nearest neighbours.

    Args:
        probabilities: One (N, K) per teacher, each number in [0, 1]; detached here.
        mean: "arithmetic" or "geometric", renormalised between p and 1 - p.

    Returns:
        (N, K), at least fp32, each number in [0, 1].

    Raises:
        ValueError: If there is no teacher, shapes disagree (nothing broadcasts), or the mean is unknown.

    Source:
        arXiv:1503.02531, sections 2 and 3, for two outcomes.

    Example:
        >>> mean_of_sigmoids([torch.tensor([[0.8]]), torch.tensor([[0.4]])], "geometric")
        tensor([[0.6202]])
    """
    stacked = _stacked(probabilities, mean)  # (M, N, K)
    if len(stacked) == 1 or mean == "arithmetic":
        return stacked.mean(dim=0)
    least = torch.finfo(stacked.dtype)
    return stacked.clamp(min=least.tiny, max=1 - least.eps / 2).logit().mean(dim=0).sigmoid()


def _stacked(probabilities: Sequence[Tensor], mean: str) -> Tensor:
    """(M, N, K) of M teachers, detached, at least fp32."""
    if mean not in ("arithmetic", "geometric"):
        raise ValueError(f"mean={mean!r} is none of 'arithmetic', 'geometric'")
    shapes = [tuple(p.shape) for p in probabilities]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"want equal (N, K) probabilities of one teacher or more, got {shapes}")
    # Cast first: autocast's own rule for stack knows no half but its own.
    return torch.stack([p.detach().to(common(p)) for p in probabilities])
