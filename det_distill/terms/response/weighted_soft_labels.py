"""Class probabilities of both heads on the same boxes or anchors, the background weighted."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.soft_labels import weighted_soft_binary, weighted_soft_cross_entropy
from det_distill.ranks import fair
from det_distill.refusals import at_least, choice
from det_distill.terms.base import HEADS, Batch, Term
from det_distill.terms.rows import RoIRows, RPNRows
from det_distill.views.anatomy import Anatomy
from det_distill.views.comparison import same_classes

KINDS = {
    "rpn": "RPN has a softmax; one sigmoid an anchor",
    "roi": "RoI head has sigmoid classes; a softmax with background",
}


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
        self.source = RoIRows() if choice("head", head, HEADS) == "roi" else RPNRows()
        self.head, self.taps = head, self.source.taps
        self.background_weight = at_least("background_weight", background_weight, 0)
        self.temperature = at_least("temperature", temperature, 1e-3)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        for side in (student, teacher):
            if self.source.sigmoid(side) != (self.head == "rpn"):
                raise ValueError(f"the {side.side}'s {KINDS[self.head]} is expected")
        self.source.wire(student, teacher)
        if self.head == "roi":
            same_classes(student, teacher)
        weights = torch.ones(self.source.classes(student) + 1)
        weights[-1] = self.background_weight  # MMDetection's background is the last class
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        own, its = self.source.rows([student, teacher], batch)
        if self.head == "roi":
            value = weighted_soft_cross_entropy(own, its, self.class_weights, self.temperature)
        else:
            value = weighted_soft_binary(own[:, 0], its[:, 0], self.background_weight, self.temperature)
        return fair(value, len(own))
