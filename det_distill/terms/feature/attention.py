"""Where a net looks (attention transfer, Zagoruyko and Komodakis, ICLR 2017)."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.attention import REDUCTIONS, attention_transfer
from det_distill.refusals import at_least, choice
from det_distill.terms.maps import MapTerm


@MODELS.register_module()
class AttentionTransfer(MapTerm):
    """The squared gap between both nets' normalised energy maps, per image, mean over levels; channels may differ.

    Args:
        tap: See `MapTerm`.
        weight: Multiplier.
        power: At least 1, of the activations whose sum over channels is a cell's energy.
        reduction: "sum" over cells, so that large maps count as small ones do; "mean", the paper's code, whose 1e3 is
            meant for maps up to 32x32; "norm", the paper's formula.
        **maps: See `MapTerm`.
    """

    any_channels = True

    def __init__(self, tap: str, weight: float, power: float = 2.0, reduction: str = "sum", **maps: Any) -> None:
        super().__init__(tap, weight, **maps)
        self.power = at_least("power", power, 1)
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def level(self, student: Tensor, teacher: Tensor) -> Tensor:
        return attention_transfer(student, teacher, self.power, self.reduction)
