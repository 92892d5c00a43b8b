"""Features rounded to a coarse grid (Wei et al., ECCV 2018).

Why: a student with few channels need not find the teacher's exact features, only those that round to the
same values, and there are far fewer of these to choose from.
"""

from torch import Tensor, nn

from det_distill.fp32 import common


def quantise(features: Tensor, step: float = 1.0, signed: bool = False, straight_through: bool = True) -> Tensor:
    r"""The multiple of `step` nearest to each feature, at least 0.

    .. math:: Q(f) = s \max(0, \lceil f / s - 1/2 \rceil)

    Midpoints go down (`torch.round` would take them to the even neighbour), and nothing bounds Q from above.
    It is worked out in fp32 or better: from 128 on bf16 has no halves left to subtract.

    Args:
        features: Any shape, raw activation units.
        step: s > 0, same units. The paper's value is not known to us; 1 suits the output of a ReLU.
        signed: Whether to leave out the max, for pyramid levels, whose features have both signs. Ours, not the
            paper's.
        straight_through: Whether the gradient is that of the identity, negatives included (they would never
            recover otherwise), or 0 everywhere.

    Returns:
        Shape and dtype of `features`, a function of them in the graph either way.

    Source:
        Wei et al., ECCV 2018.

    Example:
        >>> import torch
        >>> quantise(torch.tensor([-2.6, 0.5, 1.5, 1.6]))
        tensor([0., 0., 1., 2.])
    """
    grid = (features.detach() if straight_through else features).to(common(features)) / step
    grid.sub_(0.5).ceil_()  # in place, for crops are many and each copy costs as much as the rounding
    if not signed:
        grid.clamp_(min=0)
    grid = grid.mul_(step).to(features.dtype)
    # The second term is 0 and only carries the gradient.
    return grid + (features - features.detach()) if straight_through else grid


class Quantiser(nn.Module):
    """`quantise` as a layer without weights; it follows the adapter.

    Args:
        step: As in `quantise`.
        signed: As in `quantise`.
        straight_through: As in `quantise`.

    Raises:
        ValueError: If the step is not a positive, finite number.
    """

    def __init__(self, step: float = 1.0, signed: bool = False, straight_through: bool = True) -> None:
        super().__init__()
        if not 0 < step < float("inf"):
            raise ValueError(f"step={step} is not a positive, finite number; 1 suits the output of a ReLU")
        self.step, self.signed, self.straight_through = step, signed, straight_through

    def forward(self, features: Tensor) -> Tensor:
        """Same shape and dtype as `features`."""
        return quantise(features, self.step, self.signed, self.straight_through)

    def extra_repr(self) -> str:
        return f"step={self.step}, signed={self.signed}, straight_through={self.straight_through}"
