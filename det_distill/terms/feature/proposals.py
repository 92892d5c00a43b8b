"""Features at the student's boxes imitate the teacher's (Li et al., CVPR 2017; Wei et al., ECCV 2018)."""

from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor, nn

from det_distill.adapters import fitting
from det_distill.building import build
from det_distill.losses.proposals import native_crop_mimic, proposal_mimic
from det_distill.ranks import fair
from det_distill.refusals import choice
from det_distill.terms.base import Batch
from det_distill.terms.boxes import BoxTerm, cells_of
from det_distill.views.anatomy import Anatomy

CROPS = ("align", "native")


@MODELS.register_module()
class ProposalMimic(BoxTerm):
    """Both nets' features at the student's boxes, squared gap.

    The value is `1/(2N) sum_i (1/m_i) ||u_i - r(v_i)||^2` over N boxes of m_i elements each.

    Args:
        tap: See `BoxTerm`.
        weight: Multiplier.
        crop: "align" is a RoIAlign; "native" is the box's own cells, unresampled.
        adapter: Config of the student's adapter r, channels inferred; by default a 3x3 convolution of maps and crops,
            and none of vectors. Native crops are cut behind it.
        quantiser: Config of a `Quantiser` of both sides, behind the adapter; None for none.
        normalise: Whether to divide by m_i: Li does, Wei does not.
        **boxes: See `BoxTerm`; `resize` is for crops of "align" only.
    """

    def __init__(
        self,
        tap: str,
        weight: float,
        crop: str = "align",
        adapter: dict[str, Any] | str | None = "auto",
        quantiser: dict[str, Any] | None = None,
        normalise: bool = True,
        **boxes: Any,
    ) -> None:
        super().__init__(tap, weight, **boxes)
        self.crop, self.normalise = choice("crop", crop, CROPS), normalise
        self._adapter = choice("adapter", adapter, ["auto"]) if isinstance(adapter, str) else adapter
        self.quantiser = build(MODELS, quantiser) if quantiser else nn.Identity()
        if self.resize and crop == "native":
            raise ValueError("resize=True with crop='native': grids differ, so crops do; use crop='align'")

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        super().wire(student, teacher)
        cells = self.crops is not None or len(student.shows[self.tap]) == 3
        default = dict(type="ConvAdapter", kernel=3) if cells else None
        adapter = default if isinstance(self._adapter, str) else self._adapter
        self.adapter = fitting(adapter, *self.channels, f"'{self.tap}'")

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        if self.crops and self.crop == "native":
            return self._native(self.crops.maps(student, 0), self.crops.maps(teacher, 1), self.rois(student))
        own, its = self.compared(student, teacher)
        return fair(proposal_mimic(self.quantiser(self.adapter(own)), self.quantiser(its), self.normalise), len(own))

    def _native(self, maps: list[Tensor], goals: list[Tensor], rois: Tensor) -> Tensor:
        assert self.crops
        level, total = self.crops.levels(rois), rois.new_zeros(())
        for index, (one, goal, pair) in enumerate(zip(maps, goals, self.pairs, strict=True)):
            cells = cells_of(rois, one.shape[2:], pair.strides[0])
            own, its = self.quantiser(self.adapter(one)), self.quantiser(goal)
            total = total + native_crop_mimic(own, its, cells, self.normalise, level == index)
        return fair(total, len(rois))
