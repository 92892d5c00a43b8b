"""Class logits as rows (N, classes): the same boxes, anchors or cells on both sides."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from det_distill.building import build
from det_distill.masks import Mask, cells_on, demand_anchors
from det_distill.terms.base import Batch, per_anchor
from det_distill.views.anatomy import Anatomy
from det_distill.views.base import RPN_TARGETS
from det_distill.views.comparison import paired, same_anchors


def judged_alike(student: Anatomy, teacher: Anatomy) -> int:
    """How many anchors or points both dense heads judge in a cell.

    Raises:
        ValueError: They differ in number, or in shape.
    """
    own, its = (side.grid_head.num_base_priors for side in (student, teacher))
    if own != its:
        raise ValueError(f"{own} anchors or points a cell on the student, {its} on the teacher; as many are expected")
    if own > 1:
        same_anchors(student, teacher)
    return int(own)


class RoIRows:
    """The RoI head's, a row each sampled RoI: K classes and the background behind them, of sigmoids too."""

    taps: tuple[str, ...] = ("roi.logits",)
    by_class = True  # whether classes are told apart

    def classes(self, side: Anatomy) -> int:
        return int(side.head.num_classes)

    def sigmoid(self, side: Anatomy) -> bool:
        return bool(getattr(side.head.loss_cls, "use_sigmoid", False))

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        """Both heads judge the student's boxes, so nothing else need agree."""

    def rows(self, shown: Sequence[Mapping[str, Any]], batch: Batch) -> list[Tensor]:
        """Those of every net, row beside row.

        Args:
            shown: What the student showed, its training targets among it; then each teacher, in the order of wiring.
            batch: The batch.
        """
        return [one["roi.logits"] for one in shown]


class RPNRows(RoIRows):
    """The RPN's objectness, a row each anchor that the student samples: one sigmoid, or a softmax with background."""

    taps = ("rpn.logits", RPN_TARGETS)
    by_class = False

    def classes(self, side: Anatomy) -> int:
        return 1

    def sigmoid(self, side: Anatomy) -> bool:
        return bool(side.rpn.use_sigmoid_cls)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        same_anchors(student, teacher)
        self.values = 1 if self.sigmoid(student) else 2

    def rows(self, shown: Sequence[Mapping[str, Any]], batch: Batch) -> list[Tensor]:
        sampled = torch.cat([weights.flatten() for weights in shown[0][RPN_TARGETS][1]]).nonzero().squeeze(1)
        return [per_anchor(one["rpn.logits"], self.values)[sampled] for one in shown]


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
        self.places: list[list[int]] = [[]]  # of the levels compared: the student's, then those of each teacher

    def classes(self, side: Anatomy) -> int:
        return int(side.dense.num_classes)

    def sigmoid(self, side: Anatomy) -> bool:
        return bool(side.dense.use_sigmoid_cls)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        pairs = paired(student, teacher, "head.logits", self.strides)
        self.each, self.grid = judged_alike(student, teacher), [pair.strides[0] for pair in pairs]
        demand_anchors(self.mask, student.priors, self.grid)
        self.places[0] = [pair.places[0] for pair in pairs]
        self.places.append([pair.places[1] for pair in pairs])

    def rows(self, shown: Sequence[Mapping[str, Any]], batch: Batch) -> list[Tensor]:
        nets = [[one["head.logits"][k] for k in places] for one, places in zip(shown, self.places, strict=True)]
        masks = cells_on(self.mask, batch.scene, batch.priors, nets[0], self.grid)
        places = [on.nonzero(as_tuple=True) for on in masks]
        return [self._rows(maps, places) for maps in nets]

    def _rows(self, maps: Sequence[Tensor], places: Sequence[tuple[Tensor, ...]]) -> Tensor:
        cells = torch.cat([one.permute(0, 2, 3, 1)[on] for one, on in zip(maps, places, strict=True)])  # (N, A * K)
        return cells.unflatten(1, (self.each, -1)).flatten(0, 1)
