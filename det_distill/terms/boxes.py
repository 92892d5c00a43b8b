"""What terms of boxes share: the student's boxes, and what both nets show of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from det_distill.crops import PairedCrops
from det_distill.refusals import at_least, choice
from det_distill.terms.base import Term
from det_distill.views.anatomy import Anatomy, MapSpec
from det_distill.views.base import PROPOSALS, ROI_CROPS, ROIS
from det_distill.views.comparison import Pair, paired, same_coder, same_sizes

SOURCES = {"proposals": PROPOSALS, "sampled": ROIS}


class BoxTerm(Term):
    """Crops of a tap's maps at the student's boxes, or what the RoI heads show of each sampled box.

    Args:
        tap: What is compared: a tap of maps, cropped at the boxes, each box on one level for both nets; or one of the
            RoI head ("roi.features", "roi.embedding", "roi.logits", "roi.deltas"), as it is.
        weight: Multiplier.
        boxes: "proposals", the student's RPN's `num` best of each image; or "sampled", those its RoI head trains on,
            positive and negative. The latter cost less: a crop of `size` 7, of all the levels that the RoI head crops
            from, it has made already.
        num: Boxes an image; of more that are sampled, an even spread in their order.
        size: Cells of a crop, which is a RoIAlign.
        strides: The student's levels to compare, where not all.
        resize: For nets of one stride fed at different scales: levels are paired by each net's own stride.
        schedule: See `Term`.
    """

    def __init__(
        self,
        tap: str,
        weight: float,
        boxes: str = "proposals",
        num: int = 128,
        size: int = 7,
        strides: Sequence[int] | None = None,
        resize: bool = False,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.tap, self.strides, self.resize = tap, strides, resize
        self.num, self.size = int(at_least("num", num, 1)), int(at_least("size", size, 1))
        self.source = SOURCES[choice("boxes", boxes, SOURCES)]
        self.taps = (tap,) if tap.startswith("roi.") else (tap, self.source)
        self.crops: PairedCrops | None = None
        self.channels = (0, 0)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        if isinstance(student.shows[self.tap][0], MapSpec):
            self.crops = PairedCrops(
                self.tap, paired(student, teacher, self.tap, self.strides, self.resize), self.size, student.scale
            )
            self.channels = self.crops.pairs[0].channels
            if self.source == ROIS and self.crops.same_as(student.cuts):
                self.taps = (*self.taps, ROI_CROPS)
            return
        if self.tap == "roi.deltas":
            same_coder(student, teacher, "roi")
        self.channels = same_sizes(student, teacher, self.tap)

    @property
    def pairs(self) -> Sequence[Pair]:
        """The levels cropped; none where a tap of the RoI head is compared."""
        return self.crops.pairs if self.crops else ()

    def rois(self, student: Mapping[str, Any]) -> Tensor:
        """(N, 5) the boxes compared, behind the index of their image."""
        if self.source == ROIS:
            boxes: Tensor = student[ROIS]
            return boxes[self._chosen(student)]
        return bbox2roi([one[: self.num] for one in student[PROPOSALS]])

    def _chosen(self, student: Mapping[str, Any]) -> Tensor:
        """Which of the sampled boxes are compared."""
        images = len(student[self.tap][0])
        return spread(len(student[ROIS]), self.num * images, student[ROIS].device)

    def compared(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """(N, ...) of both sides."""
        if not self.crops:
            return student[self.tap], teacher[self.tap]
        own = None
        if ROI_CROPS in self.taps:
            own = student[ROI_CROPS].index_select(0, self._chosen(student))
        return self.crops(student, teacher, self.rois(student), own)


def spread(count: int, most: int, device: torch.device) -> Tensor:
    """At most so many of the indices below `count`, evenly spread.

    Example:
        >>> spread(10, 4, torch.device("cpu"))
        tensor([0, 2, 5, 7])
    """
    kept = min(count, most)
    return torch.arange(kept, device=device) * count // max(1, kept)


def cells_of(rois: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """(N, 5) int64: the image, and the cells of a map that each box reaches, at least one; x2 and y2 lie just beyond.

    Args:
        rois: (N, 5), image index and box.
        size: H, W.
        stride: Pixels a cell.
    """
    image, *corners = rois.unbind(dim=1)
    x1, y1, x2, y2 = (one / stride for one in corners)
    left, top = x1.floor().clamp(0, size[1] - 1), y1.floor().clamp(0, size[0] - 1)
    right, bottom = x2.ceil().clamp(max=size[1]), y2.ceil().clamp(max=size[0])
    return torch.stack((image, left, top, right.maximum(left + 1), bottom.maximum(top + 1)), dim=1).long()
