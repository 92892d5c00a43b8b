"""What terms of boxes' embeddings share: one vector a box from each net, chosen, capped and grouped."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from det_distill.crops import PairedCrops
from det_distill.ranks import joined
from det_distill.refusals import at_least, choice
from det_distill.terms.base import Batch, Term
from det_distill.terms.boxes import spread
from det_distill.views.anatomy import Anatomy, MapSpec
from det_distill.views.base import ROI_TARGETS, ROIS
from det_distill.views.comparison import paired

CHOICES = ("positive", "sampled")
GROUPS = ("batch", "image")
CROP = 7  # cells a side of the crop whose mean is a box's embedding


class EmbeddingTerm(Term):
    """Embeddings of boxes, group by group; a subclass says in `group` how far two sets of them are apart.

    Args:
        weight: Multiplier.
        tap: A tap of the RoI head, such as "roi.embedding"; or one of maps, such as "neck", of which the mean over each
            ground-truth box's crop is taken: the way for single-stage students.
        boxes: Of the RoI head's sampled boxes the "positive" ones, or all that are "sampled".
        per: The relations compared are those within each "image" (their values are averaged) or the whole "batch",
            of all ranks.
        cap: How many boxes a group has at the most; of more, an even spread in the order they were sampled in.
        strides: The student's levels to crop from, where not all.
        schedule: See `Term`.
    """

    def __init__(
        self,
        weight: float,
        tap: str = "roi.embedding",
        boxes: str = "positive",
        per: str = "batch",
        cap: int = 128,
        strides: Sequence[int] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.tap, self.strides, self.cap = tap, strides, int(at_least("cap", cap, 1))
        self.boxes, self.per = choice("boxes", boxes, CHOICES), choice("per", per, GROUPS)
        self.taps = (tap, ROIS, ROI_TARGETS) if tap.startswith("roi") else (tap,)
        self.crops: PairedCrops | None = None

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        if all(isinstance(spec, MapSpec) for spec in student.shows[self.tap]):
            self.crops = PairedCrops(self.tap, paired(student, teacher, self.tap, self.strides), CROP, student.scale)
        else:
            self.classes = student.head.num_classes

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        own, its, labels, image = self._all(student, teacher, batch)
        if self.per == "batch":
            own, its, labels = (joined(one) for one in (own, its, labels))
            groups = [torch.arange(len(labels), device=labels.device)]
        else:
            groups = [(image == one).nonzero().squeeze(1) for one in range(len(batch.samples))]
        values = []
        for members in groups:
            chosen = members[spread(len(members), self.cap, members.device)]
            values.append(self.group(own[chosen], its[chosen], labels[chosen]))
        return sum(values[1:], values[0]) / len(values)

    def _all(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both nets' embeddings of all candidates, and the class and image of each."""
        if self.crops:
            rois = bbox2roi(batch.scene.boxes)
            labels = torch.cat([sample.gt_instances.labels for sample in batch.samples])
            own, its = (crop.mean(dim=(2, 3)) for crop in self.crops(student, teacher, rois))
            return own, its, labels, rois[:, 0]
        labels = student[ROI_TARGETS][0]
        known = labels < self.classes if self.boxes == "positive" else labels >= 0
        wanted = known.nonzero().squeeze(1)  # a wait for the device: how many boxes there are to compare, only it knows
        own, its = (side[self.tap].flatten(1)[wanted] for side in (student, teacher))
        return own, its, labels[wanted], student[ROIS][wanted, 0]

    def group(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """How far the embeddings (N, d_s) and (N, d_t) of the same N boxes, of (N,) classes, are apart."""
        raise NotImplementedError
