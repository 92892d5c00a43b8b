"""Maps compared cell by cell, where a mask says."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor, nn
from torch.nn import functional as F

from det_distill.adapters import ConvAdapter
from det_distill.building import build
from det_distill.losses.imitation import masked_imitation, masked_mean_gap
from det_distill.masks import FullMask, Mask, cells_on, demand_anchors
from det_distill.masks.few import few_cells
from det_distill.ranks import fair
from det_distill.refusals import choice
from det_distill.terms.base import Batch
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
        maps = [own for own, _ in self.paired(student, teacher)]
        masks = cells_on(self.mask, batch.scene, batch.priors, maps, self.grid)
        compared = self.somewhere(student, teacher, masks) if self.local else self.everywhere(student, teacher, masks)
        return self.total([fair(self.distance(*level), level[2].sum()) for level in compared])

    @property
    def local(self) -> bool:
        """Whether the adapters can do with the cells that a mask has on."""
        adapters = all(isinstance(one, ConvAdapter) and one.local for one in self.adapters)
        return adapters and not self.resize and not isinstance(self.mask, FullMask)

    def everywhere(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], masks: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per level the adapted map, the teacher's, and the mask, of its size."""
        compared = self.compared(student, teacher)
        if self.resize:
            masks = [
                F.interpolate(on[:, None].float(), goal.shape[2:])[:, 0] > 0
                for on, (_, goal) in zip(masks, compared, strict=True)
            ]
        return [(*maps, on) for maps, on in zip(compared, masks, strict=True)]

    def somewhere(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], masks: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The same of the cells that are on alone, as maps of one row, where these are few: the value is the same."""
        found = []
        levels = zip(self.adapters, self.paired(student, teacher), masks, few_cells(masks), strict=True)
        adapt: Any
        for adapt, (own, goal), on, cells in levels:
            if cells is None:
                one, other = adapt(own), goal
            else:
                image, row, column = cells
                rows = adapt.at(own, cells), goal[image, :, row, column]
                one, other = (side.T[None, :, None] for side in rows)  # (1, C_teacher, 1, N)
                on = torch.ones_like(one[:, 0], dtype=torch.bool)
            found.append((self.quantiser(one), self.quantiser(other), on))
        return found
