"""What activates each channel (neuron selectivity transfer, Huang and Wang, 2017)."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.selectivity import KERNELS, neuron_selectivity
from det_distill.refusals import choice
from det_distill.terms.maps import MapTerm


@MODELS.register_module()
class NeuronSelectivity(MapTerm):
    """Distance between the distributions of both nets' channel patterns, mean over levels; channels may differ.

    Args:
        tap: See `MapTerm`; the paper's is before a ReLU ("backbone.preactivation").
        weight: Multiplier; half the paper's lambda.
        kernel: "linear", "polynomial" (of degree 2) or "gaussian".
        **maps: See `MapTerm`.
    """

    any_channels = True

    def __init__(self, tap: str, weight: float, kernel: str = "polynomial", **maps: Any) -> None:
        super().__init__(tap, weight, **maps)
        self.kernel = choice("kernel", kernel, KERNELS)

    def level(self, student: Tensor, teacher: Tensor) -> Tensor:
        return neuron_selectivity(student, teacher, self.kernel)
