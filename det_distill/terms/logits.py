"""Response-based knowledge: the class probabilities of both heads on the same boxes or anchors."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from det_distill.configs import at_least, choice
from det_distill.losses.soft_labels import weighted_soft_binary, weighted_soft_cross_entropy
from det_distill.terms.base import HEADS, Batch, Term, per_anchor
from det_distill.views.anatomy import Anatomy, same_anchors


@MODELS.register_module()
class WeightedSoftLabels(Term):
    """Cross entropy with the teacher's class probabilities, its background terms weighted (Chen et al., NIPS 2017).

    On the RoI head the mean over the student's sampled RoIs; on the RPN, whose objectness is one sigmoid, the mean
    over its sampled anchors. The paper's `mu` is `task_weights=dict(loss_cls=mu)` beside `weight=1 - mu`.

    Args:
        head: "roi" or "rpn".
        weight: Multiplier, `1 - mu`.
        background_weight: Weight of the background's term inside the sum; other classes have 1. Off 1, the student
            that loses least is not the teacher but has `p` proportional to `weight * teacher's p`.
        temperature: Divides both nets' logits; no factor T^2.
        schedule: See `Term`.
    """

    class_weights: Tensor

    def __init__(
        self,
        head: str,
        weight: float,
        background_weight: float = 1.5,
        temperature: float = 1.0,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.head, self.background_weight, self.temperature = (
            choice("head", head, HEADS),
            at_least("background_weight", background_weight, 0),
            at_least("temperature", temperature, 1e-3),
        )
        self.taps = ("roi.logits",) if head == "roi" else ("rpn.logits", "rpn.targets")

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        own, its = student.shows[self.taps[0]], teacher.shows[self.taps[0]]
        if self.head == "rpn":
            same_anchors(student, teacher)
            for side in (student, teacher):
                if not side.rpn.use_sigmoid_cls:
                    raise ValueError(f"the {side.side}'s RPN has a softmax; one sigmoid an anchor is expected")
            return
        for side in (student, teacher):
            if getattr(side.head.loss_cls, "use_sigmoid", False):
                raise ValueError(
                    f"the {side.side}'s RoI head has sigmoid classes; a softmax with background is expected"
                )
        if own != its:
            raise ValueError(f"'roi.logits' has shape {own} on the student and {its} on the teacher: other classes?")
        weights = torch.ones(student.head.num_classes + 1)
        weights[-1] = self.background_weight  # MMDetection's background is the last class
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        tap = self.taps[0]
        if self.head == "roi":
            return weighted_soft_cross_entropy(student[tap], teacher[tap], self.class_weights, self.temperature)
        sampled = torch.cat([weights.flatten() for weights in student["rpn.targets"][1]]) > 0
        own, its = (per_anchor(side[tap], 1)[sampled, 0] for side in (student, teacher))
        return weighted_soft_binary(own, its, self.background_weight, self.temperature)
