"""Maps compared cell by cell, where a mask says."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor, nn

from det_distill.building import build
from det_distill.losses.imitation import masked_imitation, masked_mean_gap
from det_distill.masks import FullMask, Mask, cells_on, demand_anchors
from det_distill.ranks import fair
from det_distill.refusals import choice
from det_distill.terms.base import Batch
from det_distill.terms.cells import cell_by_cell, everywhere, somewhere
from det_distill.terms.maps import MapTerm
from det_distill.views.anatomy import Anatomy

DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cell": masked_imitation,
    "l2": partial(masked_mean_gap, norm="l2"),
    "l1": partial(masked_mean_gap, norm="l1"),
}


@MODELS.register_module()
class FeatureImitation(MapTerm):
    """The student's adapted maps imitate the teacher's where a mask says: hints and fine-grained imitation.

    The value is the mean over levels of the distance on the mask's cells. Levels are paired by stride.

    Args:
        tap: See `MapTerm`.
        mask: Config of `AnchorIoUMask`, `GtBoxMask`, `PointMask` or `FullMask`.
        weight: Multiplier; imitation's source has 0.01 a cell, hints' 0.5 a mean element.
        distance: "cell" is half the squared gap summed over channels, per cell (Wang et al., CVPR 2019; hints of
            FitNets with `FullMask`); "l2" and "l1" are means over the elements of those cells (hints, Chen et al.,
            NIPS 2017).
        adapter: See `MapTerm`.
        quantiser: Config of a `Quantiser` of both sides (Wei et al., ECCV 2018), behind the adapter; None for none.
        **maps: See `MapTerm`. With `resize` the mask is brought to the teacher's grid too, by nearest cell.
    """

    def __init__(
        self,
        tap: str,
        mask: dict[str, Any],
        weight: float,
        distance: str = "cell",
        adapter: dict[str, Any] | None = dict(type="ConvAdapter", kernel=3),  # noqa: B006 - read only
        quantiser: dict[str, Any] | None = None,
        **maps: Any,
    ) -> None:
        super().__init__(tap, weight, adapter, **maps)
        self.distance = DISTANCES[choice("distance", distance, DISTANCES)]
        self.mask: Mask = build(TASK_UTILS, mask)
        self.quantiser = build(MODELS, quantiser) if quantiser else nn.Identity()

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        super().wire(student, teacher)
        self.grid = [pair.strides[0] for pair in self.pairs]
        demand_anchors(self.mask, student.priors, self.grid)

    def compared(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        return [(self.quantiser(one), self.quantiser(goal)) for one, goal in super().compared(student, teacher)]

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        pairs = self.paired(student, teacher)
        masks = cells_on(self.mask, batch.scene, batch.priors, [own for own, _ in pairs], self.grid)
        if self.local:
            levels = somewhere(self.adapters, pairs, masks)
            levels = [(self.quantiser(one), self.quantiser(goal), on) for one, goal, on in levels]
        else:
            levels = everywhere(self.compared(student, teacher), masks)
        return self.total([fair(self.distance(*level), level[2].sum()) for level in levels])

    @property
    def local(self) -> bool:
        """Whether the cells that a mask has on will do."""
        return cell_by_cell(self.adapters) and not self.resize and not isinstance(self.mask, FullMask)
