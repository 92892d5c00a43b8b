"""Which neurons fire (activation boundaries, Heo et al., AAAI 2019)."""

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.activation_boundary import activation_boundary
from det_distill.refusals import at_least
from det_distill.terms.maps import MapTerm


@MODELS.register_module()
class ActivationBoundary(MapTerm):
    """A squared hinge on the sign of every activation; the deepest level counts 1, the next 1/2, then 1/4.

    In the paper this alone trains the student's first stage (`stages`).

    Args:
        tap: See `MapTerm`; the student's is to be before its ReLU, of the teacher only signs count.
        weight: Multiplier; the paper's code has 3/1000 of a sum over all activations of an image.
        margin: How far beyond 0 the student's activation is pushed.
        adapter: Config of the connector, channels inferred.
        **maps: See `MapTerm`.
    """

    def __init__(
        self,
        weight: float,
        tap: str = "backbone.preactivation",
        margin: float = 1.0,
        adapter: dict[str, Any] | None = dict(type="ConvAdapter", kernel=1, norm=True),  # noqa: B006 - read only
        **maps: Any,
    ) -> None:
        super().__init__(tap, weight, adapter, **maps)
        self.margin = at_least("margin", margin, 0)

    def level(self, student: Tensor, teacher: Tensor) -> Tensor:
        return activation_boundary(student, teacher, self.margin)

    def total(self, values: Sequence[Tensor]) -> Tensor:
        value = values[0]
        for one in values[1:]:
            value = value / 2 + one
        return value
