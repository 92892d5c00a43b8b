"""Box distributions of single-stage heads at the student's positives."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.dense_heads import GFLHead
from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.localisation import localisation
from det_distill.ranks import fair
from det_distill.refusals import at_least
from det_distill.terms.base import Batch, Term, per_anchor
from det_distill.views.anatomy import Anatomy
from det_distill.views.base import DENSE_TARGETS
from det_distill.views.comparison import paired


@MODELS.register_module()
class LocalisationDistillation(Term):
    """LD: where a box's sides may lie, as the teacher's bins say, at every positive cell (Zheng et al., CVPR 2022).

    For GFL and its kin, which regress a distribution for each side. A cell counts with the student's own highest
    class score there, as in MMDetection's `LDHead`; see `localisation` for how weights compare.

    Args:
        weight: Multiplier; MMDetection's 0.25 times the images of a process.
        temperature: T, divides both nets' logits.
        schedule: See `Term`.
    """

    taps = ("head.deltas", "head.logits", DENSE_TARGETS)

    def __init__(self, weight: float = 0.5, temperature: float = 10.0, schedule: dict[str, Any] | None = None) -> None:
        super().__init__(weight, schedule)
        self.temperature = at_least("temperature", temperature, 1e-3)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        for side in (student, teacher):
            if not isinstance(side.dense, GFLHead):
                found = type(side.grid_head).__name__
                raise ValueError(f"the {side.side}'s {found} has no box distributions; GFL's are compared")
        own, its = (side.dense.reg_max for side in (student, teacher))
        if own != its:
            raise ValueError(f"bbox_head.reg_max={own} on the student, {its} on the teacher; equal ones are expected")
        paired(student, teacher, "head.deltas")  # every level
        self.bins, self.classes = own + 1, student.dense.num_classes

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        labels = torch.cat([one.flatten() for one in student[DENSE_TARGETS][1]])
        positive = ((labels >= 0) & (labels < self.classes)).nonzero().squeeze(1)
        deltas = [per_anchor(side["head.deltas"], 4 * self.bins)[positive] for side in (student, teacher)]
        logits = per_anchor(student["head.logits"], self.classes)[positive].detach()
        own, its = (one.unflatten(1, (4, self.bins)) for one in deltas)
        images = len(batch.samples)
        value = localisation(own, its, logits.sigmoid().amax(dim=1), images, self.temperature)
        return fair(value, images)
