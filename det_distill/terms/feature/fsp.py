"""How features flow from one level to the next (Yim et al., CVPR 2017)."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.fsp import flow_of_solution
from det_distill.terms.base import Batch
from det_distill.terms.maps import MapTerm
from det_distill.views.anatomy import Anatomy


@MODELS.register_module()
class FlowOfSolution(MapTerm):
    """The squared gap between both nets' cross-level Gram matrices, mean over pairs of neighbouring levels.

    In the paper this alone trains the student's first stage (`stages`), the task alone the second.

    Args:
        tap: See `MapTerm`; at least two levels.
        weight: Multiplier.
        **maps: See `MapTerm`; channels must agree, so nets of other widths need an adapter.
    """

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        super().wire(student, teacher)
        if len(self.pairs) < 2:
            raise ValueError(f"'{self.tap}' has {len(self.pairs)} level to compare; a flow is between two")

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        values = []
        for (own, its), (own_next, its_next) in pairwise(self.compared(student, teacher)):
            values.append(flow_of_solution((own, own_next), (its, its_next)))
        return self.total(values)
