"""Directions and distances whose gradients are finite where points coincide."""

import torch
from torch import Tensor

from det_distill.fp32 import no_autocast

NEGLIGIBLE = 1e-12  # a shorter vector has no direction; its inverse squared still fits fp32


def unit(vectors: Tensor) -> Tensor:
    """(..., d) vectors of length 1; a negligible one becomes 0 without gradient, where an epsilon gives one of 1e12."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length.masked_fill(length <= NEGLIGIBLE, torch.inf)


def distances(points: Tensor) -> Tensor:
    """(N, N) euclidean distances among (N, d) points, exact near 0; where points coincide the gradient is 0."""
    with no_autocast(points):
        return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
