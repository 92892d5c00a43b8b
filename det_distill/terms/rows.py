"""Class logits as rows (N, classes): the same boxes, anchors or cells on both sides."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from det_distill.configs import build
from det_distill.masks import Mask, demand_anchors
from det_distill.scene import levels_of
from det_distill.terms.base import Batch, per_anchor
from det_distill.views.anatomy import Anatomy, Pair, paired, same_anchors
from det_distill.views.base import RPN_TARGETS


class RoIRows:
    """The RoI head's, a row each sampled RoI: K classes, and the background behind them if it has a softmax."""

    taps: tuple[str, ...] = ("roi.logits",)
    by_class = True  # whether classes are told apart

    def classes(self, side: Anatomy) -> int:
        return int(side.head.num_classes)

    def sigmoid(self, side: Anatomy) -> bool:
        return bool(getattr(side.head.loss_cls, "use_sigmoid", False))

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        """Both heads judge the student's boxes, so nothing else need agree."""

    def rows(self, shown: Mapping[str, Any], student: Mapping[str, Any], side: int, batch: Batch) -> Tensor:
        """One side's.

        Args:
            shown: What that side shows.
            student: What the student showed, its training targets among it.
            side: 0 for the student, 1 for a teacher.
            batch: The batch.
        """
        logits: Tensor = shown["roi.logits"]
        return logits


class RPNRows(RoIRows):
    """The RPN's objectness, a row of one sigmoid each anchor that the student samples."""

    taps = ("rpn.logits", RPN_TARGETS)
    by_class = False

    def classes(self, side: Anatomy) -> int:
        return 1

    def sigmoid(self, side: Anatomy) -> bool:
        return bool(side.rpn.use_sigmoid_cls)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        same_anchors(student, teacher)

    def rows(self, shown: Mapping[str, Any], student: Mapping[str, Any], side: int, batch: Batch) -> Tensor:
        sampled = torch.cat([weights.flatten() for weights in student[RPN_TARGETS][1]]) > 0
        return per_anchor(shown["rpn.logits"], 1)[sampled]


class DenseRows(RoIRows):
    """A single-stage head's, a row each anchor or point of the cells where a mask says.

    Args:
        mask: Config of the mask.
        strides: The student's levels to compare, where not all.
    """

    taps = ("head.logits",)

    def __init__(self, mask: Mapping[str, Any], strides: Sequence[int] | None) -> None:
        self.mask: Mask = build(TASK_UTILS, mask)
        self.strides = strides
        self.pairs: list[Pair] = []

    def classes(self, side: Anatomy) -> int:
        return int(side.dense.num_classes)

    def sigmoid(self, side: Anatomy) -> bool:
        return bool(side.dense.use_sigmoid_cls)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        self.pairs = paired(student, teacher, "head.logits", self.strides)
        own, its = (side.dense.num_base_priors for side in (student, teacher))
        if own != its:
            raise ValueError(
                f"{own} anchors or points a cell on the student, {its} on the teacher; as many are expected"
            )
        if own > 1:
            same_anchors(student, teacher)
        demand_anchors(self.mask, student.priors, [pair.strides[0] for pair in self.pairs])
        self.each = own

    def rows(self, shown: Mapping[str, Any], student: Mapping[str, Any], side: int, batch: Batch) -> Tensor:
        own = [student["head.logits"][pair.places[0]] for pair in self.pairs]
        sizes = [(int(one.shape[2]), int(one.shape[3])) for one in own]
        priors = batch.priors if self.mask.needs_anchors else None
        masks = self.mask(batch.scene, levels_of(priors, sizes, [pair.strides[0] for pair in self.pairs]))
        maps = [shown["head.logits"][pair.places[side]].permute(0, 2, 3, 1) for pair in self.pairs]
        cells = torch.cat([one[on] for one, on in zip(maps, masks, strict=True)])  # (cells on, A * K)
        return cells.unflatten(1, (self.each, -1)).flatten(0, 1)
