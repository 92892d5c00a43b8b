"""DarkRank: the teacher's ranking of candidates by similarity (Chen et al., AAAI 2018)."""

from itertools import permutations

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from det_distill.fp32 import common, full
from det_distill.losses._geometry import distances, unit
from det_distill.losses._kept import kept


def _normalised(embeddings: Tensor) -> Tensor:
    return unit(embeddings.to(common(embeddings)))


def _log_likelihood(ranked: Tensor) -> Tensor:
    """Log P of drawing candidates in the order in which their scores lie; (..., n) -> (...)."""
    n = ranked.shape[-1]
    drawn = torch.ones(n, n, dtype=torch.bool, device=ranked.device).tril(-1)
    rest = ranked[..., None, :].masked_fill(drawn, -torch.inf).logsumexp(dim=-1)
    return (ranked - rest).sum(dim=-1)


def _checked(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.dim() != 2 or teacher.shape != student.shape:
        raise ValueError(f"want equal (Q, n) scores, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    return full(student, teacher)


def nearest(embeddings: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Every item as a query, its nearest others as candidates, nearest first; of two as near, the lower index first.

    Near is meant as in `similarity_scores`. A query is left out by its index: what coincides with it is a candidate.

    Args:
        embeddings: (N, d), the teacher's as a rule; no gradient flows.
        num: How many candidates a query gets; fewer where N - 1 is less.

    Returns:
        (Q,) and (Q, min(num, N - 1)), int64; Q = N, but 0 for N < 3: one candidate alone has no rank.

    Raises:
        ValueError: If num is below 1, or the embeddings are no matrix.

    Example:
        >>> nearest(torch.tensor([[1.0, 0], [0, 1], [1, 2]]), num=1)[1].tolist()
        [[2], [2], [1]]
    """
    if num < 1 or embeddings.dim() != 2:
        raise ValueError(f"want (N, d) embeddings and num >= 1, got {tuple(embeddings.shape)} and num={num}")
    apart = distances(_normalised(embeddings.detach())).fill_diagonal_(torch.inf)
    n = len(apart)
    queries = torch.arange(n if n >= 3 else 0, device=apart.device)
    return queries, apart.argsort(dim=1, stable=True)[queries, : min(num, max(0, n - 1))]


def similarity_scores(
    embeddings: Tensor, queries: Tensor, candidates: Tensor, alpha: float = 3.0, beta: float = 3.0
) -> Tensor:
    r"""How near each candidate is to its query.

    .. math:: S_{qj} = -\alpha \lVert \hat x_q - \hat x_j \rVert^\beta, \quad \hat x = x / \lVert x \rVert

    An embedding of 0 stays 0 and has no gradient; nor has a candidate that coincides with its query.

    Args:
        embeddings: (N, d).
        queries: (Q,), int64, rows of the embeddings.
        candidates: (Q, n), int64, rows of the embeddings.
        alpha: Scale; 3 in lenscloth/RKD@0a6c3c0.
        beta: Power, at least 1, below which coinciding points have an infinite slope; 3 in the same.

    Returns:
        (Q, n), at least fp32, between -alpha 2^beta and 0.

    Raises:
        ValueError: If shapes disagree, or beta is below 1.

    Example:
        >>> one, all_others = torch.tensor([0]), torch.tensor([[1, 2]])
        >>> similarity_scores(torch.tensor([[1.0, 0], [-2, 0], [5, 0]]), one, all_others)  # -3 * 2^3
        tensor([[-24.,  -0.]])
    """
    if embeddings.dim() != 2 or candidates.dim() != 2 or queries.shape != candidates.shape[:1]:
        got = f"{tuple(embeddings.shape)}, {tuple(queries.shape)}, {tuple(candidates.shape)}"
        raise ValueError(f"want (N, d) embeddings, (Q,) queries and (Q, n) candidates, got {got}")
    if beta < 1:
        raise ValueError(f"want beta >= 1, got {beta}")
    points = _normalised(embeddings)
    gap: Tensor = torch.linalg.vector_norm(points[queries][:, None] - points[candidates], dim=-1)  # (Q, n)
    return -alpha * gap.pow(beta)


def hard_ranking(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Minus the log-likelihood, under the student, of the teacher's order.

    .. math:: -\frac{1}{\max(1, Q)} \sum_q \sum_{i=1}^{n}
        \Big( S^s_{q \pi_i} - \log \sum_{k \ge i} \exp S^s_{q \pi_k} \Big), \quad \pi = \text{teacher's order}

    Q counts queries, places are summed. Where the teacher scores two alike, the one listed first comes first.

    Args:
        student: (Q, n), scores of n candidates a query, greater for more similar ones.
        teacher: (Q, n), scores of the same candidates; detached here.

    Returns:
        Scalar, at least fp32, nats per query; a differentiable 0 without queries or candidates.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1707.01220; the order and the mean of lenscloth/RKD@0a6c3c0, which TuSimple/DarkRank@5e6a74f weighs 16.

    Example:
        >>> scores = torch.tensor([[-1.0, -2]])
        >>> hard_ranking(scores, scores), hard_ranking(scores, -scores)
        (tensor(0.3133), tensor(1.3133))
    """
    student, teacher = _checked(student, teacher)
    order = teacher.argsort(dim=1, descending=True, stable=True)
    return -_log_likelihood(student.gather(1, order)).sum() / max(1, len(student))


def soft_ranking(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Divergence between the likelihoods that both nets give to every order of the candidates.

    .. math:: \frac{1}{\max(1, Q)} \sum_q \sum_{\pi \in S_n} P^t_q(\pi) \log \frac{P^t_q(\pi)}{P^s_q(\pi)}, \quad
        P_q(\pi) = \prod_{i=1}^{n} \frac{\exp S_{q \pi_i}}{\sum_{k \ge i} \exp S_{q \pi_k}}

    Q counts queries, the n! orders are summed. The official code leaves the teacher's entropy in: a constant.

    Args:
        student: (Q, n), scores of n candidates a query, n at most 5, that is 120 orders.
        teacher: (Q, n), scores of the same candidates; detached here.

    Returns:
        Scalar, at least fp32, nats per query; a differentiable 0 without queries or candidates.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts), or n exceeds 5.

    Source:
        arXiv:1707.01220; TuSimple/DarkRank@5e6a74f.

    Example:
        >>> soft_ranking(torch.tensor([[-2.0, -1]]), torch.tensor([[-1.0, -2]]))
        tensor(0.4621)
    """
    student, teacher = _checked(student, teacher)
    n = student.shape[1]
    if n > 5:
        raise ValueError(f"want at most 5 candidates a query, got {n}, which have {n}! orders")
    orders = kept(tuple(permutations(range(n))), student.device)  # (n!, n)
    ours, theirs = _log_likelihood(student[:, orders]), _log_likelihood(teacher[:, orders])  # (Q, n!)
    return kl_div(ours, theirs, reduction="sum", log_target=True) / max(1, len(student))
