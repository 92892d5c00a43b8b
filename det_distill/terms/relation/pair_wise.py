"""How alike the places of a map are (structured knowledge distillation, Liu et al., CVPR 2019)."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.structured import pair_wise
from det_distill.terms.maps import MapTerm


@MODELS.register_module()
class PairWise(MapTerm):
    """The squared gap between both nets' affinities of pooled places, mean over levels; channels may differ.

    Args:
        tap: See `MapTerm`.
        weight: Multiplier; the paper's is 1.
        scale: Share of the map's sides that one place covers: 0.5 makes 2 x 2 places.
        **maps: See `MapTerm`.
    """

    any_channels = True

    def __init__(self, tap: str, weight: float, scale: float = 0.5, **maps: Any) -> None:
        super().__init__(tap, weight, **maps)
        if not 0 < scale <= 1:
            raise ValueError(f"scale={scale}; 0 < scale <= 1 is expected, 0.5 makes 2 x 2 places")
        self.scale = scale

    def level(self, student: Tensor, teacher: Tensor) -> Tensor:
        return pair_wise(student, teacher, self.scale)
