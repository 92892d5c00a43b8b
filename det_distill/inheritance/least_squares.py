"""Weights of a linear map by least squares, from samples of what it is given and of what it should give."""

import torch
from torch import Tensor


class LeastSquares:
    r"""Sums over samples, from which the best weights near some others follow.

    .. math:: W = \arg\min_W \lVert X W^T - Y \rVert^2 + \lambda \lVert W - W_0 \rVert^2, \quad
        \lambda = \text{ridge} \cdot \operatorname{tr}(X^T X) / k

    Args:
        start: (O, k) fp64, W_0.

    Example:
        >>> squares = LeastSquares(torch.zeros(1, 2, dtype=torch.float64))
        >>> squares.add(torch.eye(2).double(), torch.tensor([[3.0], [4.0]]).double())
        >>> squares.solve(ridge=1.0)  # halfway from W_0, for X^T X is 1
        tensor([[1.5000, 2.0000]], dtype=torch.float64)
        >>> squares.unexplained(squares.start), squares.unexplained(squares.solve(ridge=0.0))
        (50.0, 0.0)
    """

    def __init__(self, start: Tensor) -> None:
        outputs, inputs = start.shape
        self.start, self.count = start, 0
        self.gram, self.product = start.new_zeros(inputs, inputs), start.new_zeros(inputs, outputs)
        self.total, self.squares = start.new_zeros(outputs), start.new_zeros(())

    def add(self, given: Tensor, wanted: Tensor) -> None:
        """Count samples (N, k) and (N, O) in, both fp64."""
        self.gram += given.T @ given
        self.product += given.T @ wanted
        self.total += wanted.sum(dim=0)
        self.squares += wanted.square().sum()
        self.count += len(given)

    def solve(self, ridge: float) -> Tensor:
        """(O, k) the weights; W_0 where all that was given is 0."""
        strength = ridge * self.gram.diagonal().mean()
        strength = strength.clamp(min=torch.finfo(strength.dtype).tiny)
        eye = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        step: Tensor = torch.linalg.solve(self.gram + strength * eye, self.product - self.gram @ self.start.T)
        return self.start + step.T

    def unexplained(self, weights: Tensor) -> float:
        """Squared error of some weights over the squared deviation of what is wanted from its mean; 0 of nothing."""
        error = (weights @ self.gram * weights).sum() - 2 * (weights * self.product.T).sum() + self.squares
        spread = self.squares - self.total.square().sum() / max(1, self.count)
        return float(error.clamp(min=0) / spread.clamp(min=torch.finfo(spread.dtype).tiny))
