"""Box deltas of both heads on the same boxes or anchors."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.bounded_regression import bounded_regression
from det_distill.ranks import fair
from det_distill.refusals import at_least, choice
from det_distill.terms.base import HEADS, Batch, Term, per_anchor
from det_distill.views.anatomy import Anatomy
from det_distill.views.comparison import same_anchors, same_coder


@MODELS.register_module()
class BoundedRegression(Term):
    """A squared box error for the student wherever its teacher is better (Chen et al., NIPS 2017).

    The teacher is a bound, not a target: a positive box counts with its squared distance to the ground truth, in the
    coder's units, if that plus `margin` exceeds the teacher's, else not at all. The sum is divided by the number of
    sampled boxes, positive and negative, as the stock box loss beside it is.

    Args:
        head: "roi" (the ground-truth class's slot of class-specific deltas) or "rpn".
        weight: Multiplier, the paper's lambda.
        margin: By how much the student must beat its teacher to be left alone.
        nu: The share of this loss beside the stock smooth L1.
        schedule: See `Term`.
    """

    def __init__(
        self,
        head: str,
        weight: float = 1.0,
        margin: float = 0.0,
        nu: float = 0.5,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.head = choice("head", head, HEADS)
        self.margin, self.nu = at_least("margin", margin, 0), at_least("nu", nu, 0)
        self.taps = (f"{head}.deltas", f"{head}.targets")

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        same_coder(student, teacher, self.head)
        if self.head == "rpn":
            same_anchors(student, teacher)
        else:
            classes = [side.head.num_classes for side in (student, teacher) if not side.head.reg_class_agnostic]
            if len(set(classes)) > 1:
                raise ValueError(
                    f"class-specific boxes of {classes[0]} classes on the student, {classes[1]} on the teacher"
                )

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        deltas, targets = self.taps
        if self.head == "rpn":
            _, _, goals, box_weights, count = student[targets]
            positive = torch.cat([weights.reshape(-1, 4) for weights in box_weights])[:, 0] > 0
            goal = torch.cat([one.reshape(-1, 4) for one in goals])
            own, its = (per_anchor(side[deltas], 4) for side in (student, teacher))
        else:
            labels, _, goal, box_weights = student[targets]
            positive, count = box_weights[:, 0] > 0, len(labels)
            own, its = (_slot(side[deltas], labels) for side in (student, teacher))
        return self.nu * fair(bounded_regression(own, its, goal, self.margin, count, positive), count)


def _slot(deltas: Tensor, labels: Tensor) -> Tensor:
    """(N, 4) the deltas of each box's own class, of (N, 4K) class-specific or (N, 4) class-agnostic ones.

    The background, which is behind the last class, has none; it is given those of the last.
    """
    slots = deltas.unflatten(1, (-1, 4))
    own = labels.clamp(max=slots.shape[1] - 1)
    return slots[torch.arange(len(labels), device=labels.device), own]
