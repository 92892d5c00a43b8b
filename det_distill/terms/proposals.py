"""Feature-based knowledge at the student's boxes: crops of maps, or what the RoI heads show of each box."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from det_distill.adapters import fitting
from det_distill.configs import at_least, build, choice
from det_distill.losses.proposals import native_crop_mimic, proposal_mimic
from det_distill.terms.base import Batch, Term
from det_distill.views.anatomy import Anatomy, MapSpec, Pair, paired, same_coder

SOURCES = {"proposals": "rpn.proposals", "sampled": "roi.rois"}
CROPS = ("align", "native")
FINEST = 14  # sides of a box in cells where it passes to the next level of a pyramid, halved: FPN's 56 px at stride 4


@MODELS.register_module()
class ProposalMimic(Term):
    """Both nets' features at the student's boxes, squared gap (Li et al., CVPR 2017; quantised: Wei et al., ECCV 2018).

    The value is `1/(2N) sum_i (1/m_i) ||u_i - r(v_i)||^2` over N boxes of m_i elements each. A tap of maps is cropped
    at the boxes, each box on one level for both nets; a tap of the RoI head ("roi.features", "roi.embedding",
    "roi.logits", "roi.deltas") is compared as it is, on the sampled boxes.

    Args:
        tap: What is compared.
        weight: Multiplier.
        boxes: "proposals", the student's RPN's `num` best of each image; or "sampled", those its RoI head trains on.
        num: Proposals an image.
        crop: "align" is a RoIAlign of `size` by `size` cells; "native" is the box's own cells, unresampled.
        size: Cells of a crop.
        adapter: Config of the student's adapter r, channels inferred; by default a 3x3 convolution of maps and crops,
            and none of vectors. Native crops are cut behind it.
        quantiser: Config of a `Quantiser` of both sides, behind the adapter; None for none.
        normalise: Whether to divide by m_i: Li does, Wei does not.
        strides: The student's levels to compare, where not all.
        resize: For nets of one stride fed at different scales, see `FeatureImitation`; crops of "align" only.
        schedule: See `Term`.
    """

    def __init__(
        self,
        tap: str,
        weight: float,
        boxes: str = "proposals",
        num: int = 128,
        crop: str = "align",
        size: int = 7,
        adapter: dict[str, Any] | str | None = "auto",
        quantiser: dict[str, Any] | None = None,
        normalise: bool = True,
        strides: Sequence[int] | None = None,
        resize: bool = False,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.tap, self.crop, self.strides, self.resize = tap, choice("crop", crop, CROPS), strides, resize
        self.num, self.size = int(at_least("num", num, 1)), int(at_least("size", size, 1))
        self.normalise = normalise
        self._adapter = choice("adapter", adapter, ["auto"]) if isinstance(adapter, str) else adapter
        self.source = SOURCES[choice("boxes", boxes, SOURCES)]
        self.taps = (tap,) if tap.startswith("roi.") else (tap, self.source)
        self.quantiser = build(MODELS, quantiser) if quantiser else nn.Identity()
        self.pairs: list[Pair] = []
        if resize and crop == "native":
            raise ValueError("resize=True with crop='native': grids differ, so crops do; use crop='align'")

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        own, its = student.shows[self.tap], teacher.shows[self.tap]
        if not all(isinstance(spec, MapSpec) for spec in own):
            self._wire_items(own, its, student, teacher)
            return
        self.pairs = paired(student, teacher, self.tap, self.strides, self.resize)
        if len({pair.channels for pair in self.pairs}) > 1:
            found = [pair.channels for pair in self.pairs]
            raise ValueError(
                f"'{self.tap}' has levels of differing channels (student, teacher) {found}; set strides=[one]"
            )
        self.adapter = self._fit(dict(type="ConvAdapter", kernel=3), *self.pairs[0].channels)
        # A box falls on one level: the teacher's sees it 1 / scale times as large, and so is its finest size.
        sides = zip((0, 1), (1.0, student.scale), strict=True)
        self.extractors = [self._extractor(k, FINEST * self.pairs[0].strides[0] / scale) for k, scale in sides]

    def _extractor(self, side: int, finest: float) -> SingleRoIExtractor:
        return SingleRoIExtractor(
            roi_layer=dict(type="RoIAlign", output_size=self.size, sampling_ratio=0),
            out_channels=self.pairs[0].channels[side],
            featmap_strides=[pair.strides[side] for pair in self.pairs],
            finest_scale=finest,
        )

    def _wire_items(self, own: Any, its: Any, student: Anatomy, teacher: Anatomy) -> None:
        if self.tap == "roi.deltas":
            same_coder(student, teacher, "roi")
        if len(own) != len(its) or own[1:] != its[1:]:
            raise ValueError(f"'{self.tap}' has shape (N, *{own}) on the student and (N, *{its}) on the teacher")
        default = dict(type="ConvAdapter", kernel=3) if len(own) == 3 else None
        self.adapter = self._fit(default, own[0], its[0])

    def _fit(self, default: dict[str, Any] | None, student: int, teacher: int) -> nn.Module:
        adapter = default if isinstance(self._adapter, str) else self._adapter
        return fitting(adapter, student, teacher, f"'{self.tap}'")

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        own, its, q = student[self.tap], teacher[self.tap], self.quantiser
        if not self.pairs:
            return proposal_mimic(q(self.adapter(own)), q(its), self.normalise)
        rois = self._rois(student[self.source])
        maps = [own[pair.places[0]] for pair in self.pairs]
        goals = [its[pair.places[1]] for pair in self.pairs]
        if self.crop == "native":
            return self._native([q(self.adapter(one)) for one in maps], [q(goal) for goal in goals], rois)
        crops = self.adapter(self.extractors[0](maps, rois))
        factors = rois.new_tensor([1] + 4 * [batch.scale])
        return proposal_mimic(q(crops), q(self.extractors[1](goals, rois / factors)), self.normalise)

    def _rois(self, boxes: Any) -> Tensor:
        """(N, 5) the boxes compared, behind the index of their image."""
        return boxes if isinstance(boxes, Tensor) else bbox2roi([one[: self.num] for one in boxes])

    def _native(self, maps: list[Tensor], goals: list[Tensor], rois: Tensor) -> Tensor:
        level = self.extractors[0].map_roi_levels(rois, len(maps))
        values = []
        for index, (one, goal, pair) in enumerate(zip(maps, goals, self.pairs, strict=True)):
            mine = rois[level == index]
            h, w = one.shape[2:]
            limits = mine.new_tensor([w, h])
            first = (mine[:, 1:3] / pair.strides[0]).floor().clamp(min=0).minimum(limits - 1)
            last = (mine[:, 3:5] / pair.strides[0]).ceil().minimum(limits).maximum(first + 1)  # a cell at least
            cells = torch.cat((mine[:, :1], first, last), dim=1).long()
            values.append(native_crop_mimic(one, goal, cells, self.normalise) * len(mine))
        return sum(values[1:], values[0]) / max(1, len(rois))
