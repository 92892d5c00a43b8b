"""The same boxes cut from both nets' maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from det_distill.fp32 import common
from det_distill.views.comparison import Pair

FINEST = 14  # sides of a box in cells where it passes to the next level of a pyramid, halved: FPN's 56 px at stride 4


class PairedCrops:
    """RoIAligned crops of a tap's maps on both sides; each box lies on one level, the same for both nets.

    Args:
        tap: The tap.
        pairs: Its levels, all of the same channels a side.
        size: Cells of a crop.
        scale: Pixels of the student's input a pixel of the teacher's.

    Raises:
        ValueError: Levels of differing channels.
    """

    def __init__(self, tap: str, pairs: Sequence[Pair], size: int, scale: float) -> None:
        if len({pair.channels for pair in pairs}) > 1:
            found = [pair.channels for pair in pairs]
            raise ValueError(f"'{tap}' has levels of differing channels (student, teacher) {found}; set strides=[one]")
        self.tap, self.pairs, self.scale = tap, pairs, scale
        # A box falls on one level: the teacher's sees it 1 / scale times as large, and so is its finest size.
        self.extractors = [
            SingleRoIExtractor(
                roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=0),
                out_channels=pairs[0].channels[side],
                featmap_strides=[pair.strides[side] for pair in pairs],
                finest_scale=FINEST * pairs[0].strides[0] / relative,
            )
            for side, relative in ((0, 1.0), (1, scale))
        ]

    def same_as(self, cuts: tuple[str, Any] | None) -> bool:
        """Whether the student's RoI head, by its `Anatomy.cuts`, makes of a box the very crop that is made here."""
        if cuts is None or cuts[0] != self.tap or type(cuts[1]) is not SingleRoIExtractor:
            return False
        first = [pair.places[0] for pair in self.pairs] == list(range(len(self.pairs)))
        return first and _meaning(cuts[1]) == _meaning(self.extractors[0])

    def maps(self, shown: Mapping[str, Any], side: int) -> list[Tensor]:
        """The compared levels of the student (side 0) or the teacher (side 1), at least fp32: crops differ little."""
        maps: list[Tensor] = [shown[self.tap][pair.places[side]] for pair in self.pairs]
        return [one.to(common(one)) for one in maps]

    def levels(self, rois: Tensor) -> Tensor:
        """(N,) which of the levels each box lies on."""
        found: Tensor = self.extractors[0].map_roi_levels(rois, len(self.pairs))
        return found

    def __call__(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], rois: Tensor, own: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, C, size, size) of both sides.

        Args:
            student: What the student shows.
            teacher: What the teacher shows.
            rois: (N, 5), image index and box in pixels of the student's input.
            own: The student's crops, where somebody has cut them; those in half precision are cut anew, for so were
                their boxes.
        """
        if own is None or own.dtype != common(own):
            own = self.extractors[0](self.maps(student, 0), rois)
        theirs = torch.cat((rois[:, :1], rois[:, 1:] / self.scale), dim=1)
        its: Tensor = self.extractors[1](self.maps(teacher, 1), theirs)
        if not len(rois):  # of one level MMDetection's extractor then cuts the graph
            own = own + self.maps(student, 0)[0][:0].sum()
        return own, its


def _meaning(extractor: SingleRoIExtractor) -> tuple[list[str], float | None]:
    """What decides how it cuts a box: the sizes, scales, sampling and alignment of each level, and the box's level."""
    layers = [str(layer) for layer in extractor.roi_layers]
    return layers, extractor.finest_scale if len(layers) > 1 else None
