"""Which of the teacher's neurons are worth regressing (Luo et al., AAAI 2016)."""

import torch
from torch import Tensor

from det_distill.fp32 import common, no_autocast
from det_distill.losses._geometry import distances

FLAT = 1e-6  # accuracies that differ by less are equal up to rounding


def attribute_accuracy(active: Tensor, attributes: Tensor) -> Tensor:
    r"""How well a neuron's firing tells whether an attribute is there: (TPR + TNR) / 2.

    Args:
        active: (M, D), bool, whether a neuron fires on a sample.
        attributes: (M, A), bool, whether a sample has an attribute.

    Returns:
        (D, A), fp32, in [0, 1]; 0.5 for an attribute that all samples have, or none.

    Raises:
        ValueError: If shapes disagree or either is not bool.

    Example:
        >>> fires = torch.tensor([[True], [True], [False], [False]])
        >>> attribute_accuracy(fires, torch.tensor([[True], [False], [False], [False]]))  # (1 + 2 / 3) / 2
        tensor([[0.8333]])
    """
    if active.dim() != 2 or attributes.dim() != 2 or len(active) != len(attributes):
        raise ValueError(f"want (M, D) and (M, A) of equal M, got {tuple(active.shape)}, {tuple(attributes.shape)}")
    if active.dtype != torch.bool or attributes.dtype != torch.bool:
        raise ValueError(f"want bool, got {active.dtype}, {attributes.dtype}")
    with no_autocast(active):
        hits = active.float().T @ attributes.float()  # (D, A), exact up to 2^24 samples
        false_alarms = active.float().T @ (~attributes).float()
    with_it, without = attributes.sum(dim=0), (~attributes).sum(dim=0)  # (A,)
    told = 0.5 * (hits / with_it.clamp(min=1) + 1 - false_alarms / without.clamp(min=1))
    return told.where((with_it > 0) & (without > 0), 0.5)


def unary(wanted: Tensor, nuisance: Tensor) -> Tensor:
    r"""What keeping a neuron costs: how it tells nuisances apart, over how it tells wanted attributes apart.

    .. math:: f_i = \frac{\max_a n_{ia} - \mathrm{mean}_a\, n_{ia}}{\max_a w_{ia} - \mathrm{mean}_a\, w_{ia}}

    A neuron as accurate on every wanted attribute tells none from another (one that always fires, for instance):
    it costs 1e6, more than any other, even where it tells no nuisance either. One nuisance alone gives f = 0.

    Args:
        wanted: (D, A1), accuracies on identities, or classes.
        nuisance: (D, A2), accuracies on what should not matter: scale, occlusion, truncation.

    Returns:
        (D,), at least fp32, from 0 to 1e6.

    Raises:
        ValueError: If shapes disagree, or there are fewer than two wanted attributes or no nuisance.

    Source:
        Luo et al., AAAI 2016; the guard of the denominator is ours.

    Example:
        >>> unary(torch.tensor([[0.5, 0.9]]), torch.tensor([[0.5, 0.7]]))
        tensor([0.5000])
    """
    if wanted.dim() != 2 or nuisance.dim() != 2 or len(wanted) != len(nuisance):
        raise ValueError(f"want (D, A1) and (D, A2) of equal D, got {tuple(wanted.shape)}, {tuple(nuisance.shape)}")
    if wanted.shape[1] < 2 or nuisance.shape[1] < 1:
        got = f"{wanted.shape[1]} and {nuisance.shape[1]}"
        raise ValueError(f"want at least 2 wanted attributes, to tell apart, and 1 nuisance, got {got}")
    dtype = common(wanted, nuisance)
    tells, disturbs = (x.amax(dim=1) - x.mean(dim=1) for x in (wanted.to(dtype), nuisance.to(dtype)))
    return (disturbs.clamp(min=0) / tells.clamp(min=FLAT)).where(tells >= FLAT, 1 / FLAT)


def similarity(accuracies: Tensor) -> Tensor:
    r"""How alike two neurons are: :math:`\Psi_{ij} = \exp(-\lVert x_i - x_j \rVert^2 / 2)`.

    Of (D, A) accuracies x, on wanted attributes and nuisances; (D, D), at least fp32, 1 on the diagonal.

    Example:
        >>> similarity(torch.tensor([[0.0, 0], [1, 1]]))[0]
        tensor([1.0000, 0.3679])
    """
    return (-0.5 * distances(accuracies.to(common(accuracies))).square()).exp()


def mean_field(phi: Tensor, psi: Tensor, coupling: float = 0.5, sweeps: int = 10) -> Tensor:
    r"""How probable it is that a neuron stays, each in view of the others.

    .. math:: q_i = \sigma\Big({-\Phi_i} - 2 \lambda \sum_{j \ne i} \Psi_{ij} q_j\Big) \quad \text{for the energy} \quad
        E(y) = \sum_i \Phi_i y_i + \lambda \sum_{i \ne j} \Psi_{ij} y_i y_j

    Neurons take turns, from q = 1/2. Every term of E is at least 0, so y = 0 is its least and no q exceeds 1/2: only
    their order tells. With the Psi of `similarity` and a coupling below 2 there is one fixed point, whatever the
    order of the neurons; ten sweeps reach it up to 1e-3 for a thousand neurons, to the last digit for a few.

    Args:
        phi: (D,), cost of each.
        psi: (D, D), symmetric; the diagonal is not read.
        coupling: lambda.
        sweeps: How often each takes its turn.

    Returns:
        q, (D,), at least fp32.

    Raises:
        ValueError: If shapes disagree.

    Source:
        Luo et al., AAAI 2016; the sequential sweeps are our choice.

    Example:
        >>> mean_field(torch.tensor([0.2, 1]), torch.ones(2, 2))
        tensor([0.4019, 0.1975])
    """
    if phi.dim() != 1 or psi.shape != (len(phi), len(phi)):
        raise ValueError(f"want (D,) phi and (D, D) psi, got {tuple(phi.shape)}, {tuple(psi.shape)}")
    dtype = common(phi, psi)
    cost, pull = phi.to(dtype), 2 * coupling * psi.to(dtype).clone().fill_diagonal_(0)
    q = torch.full_like(cost, 0.5)
    for _ in range(sweeps):
        for i in range(len(q)):
            q[i] = (-cost[i] - (pull[i] * q).sum()).sigmoid()
    return q


def select_neurons(activations: Tensor, wanted: Tensor, nuisance: Tensor, budget: int, coupling: float = 0.5) -> Tensor:
    """The neurons to regress: those that tell wanted attributes apart, not nuisances, and are unlike each other.

    The regression itself is `proposals.proposal_mimic` on these channels with normalise=False.

    Args:
        activations: (M, D), of samples; above 0 a neuron fires. Neurons that never fire are left out first.
        wanted: (M, A1), bool, the identity or class of a sample, one of A1.
        nuisance: (M, A2), bool, what should not matter.
        budget: How many neurons.
        coupling: How much likeness to other neurons weighs.

    Returns:
        (budget,), int64, ascending.

    Raises:
        ValueError: If shapes disagree, attributes are not bool or too few to be told apart, the budget is below 1,
            or fewer neurons ever fire.

    Source:
        Luo et al., AAAI 2016; liuziwei7/mobile-id@ba75483 holds no selection. That q ranks within a budget is ours.

    Example:
        >>> cat, dog = [True, False, True, False], [False, True, False, True]
        >>> near = torch.tensor([[True], [True], [False], [False]])
        >>> fires = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]])  # on cats, never, when near
        >>> select_neurons(fires, torch.tensor([cat, dog]).T, near, budget=1)
        tensor([0])
    """
    active = activations > 0
    alive = active.any(dim=0).nonzero().squeeze(dim=1)
    if not 1 <= budget <= len(alive):
        raise ValueError(f"want a budget from 1 to the number of neurons that ever fire, {len(alive)}, got {budget}")
    x_wanted, x_nuisance = (attribute_accuracy(active[:, alive], a) for a in (wanted, nuisance))
    psi = similarity(torch.cat((x_wanted, x_nuisance), dim=1))
    q = mean_field(unary(x_wanted, x_nuisance), psi, coupling)
    return alive[q.argsort(descending=True, stable=True)[:budget]].sort().values
