"""Softened class probabilities of one teacher or of several (Hinton et al., 2015)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.teachers import of_sigmoids, of_softmax
from det_distill.ranks import fair
from det_distill.refusals import at_least, choice
from det_distill.terms.base import Batch, Term
from det_distill.terms.rows import DenseRows, RoIRows, RPNRows
from det_distill.views.anatomy import Anatomy

HEADS = ("roi", "rpn", "dense")
MEANS = ("arithmetic", "geometric")


@MODELS.register_module()
class SoftLabels(Term):
    """T^2 times the divergence from the teachers' softened class probabilities to the student's, per box or anchor.

    The classes of a softmax exclude each other, background among them; those of sigmoids are a Bernoulli each, and
    their divergences are summed. Teachers of all classes are averaged into one target at temperature T. A teacher with
    a `class_map` is a specialist and adds a divergence of its own: of a softmax between the classes it shares and one
    for all the rest, on those boxes whose class the averaged teachers see among its own (all boxes, if there is no
    teacher of all classes); of sigmoids over the classes it shares.

    Args:
        head: "roi", over the sampled RoIs; "rpn", over the sampled anchors; or "dense", a single-stage head's, over the
            anchors or points of the cells where `mask` says.
        weight: Multiplier; Hinton's alpha, beside `task_weights=dict(loss_cls=1 - alpha)`.
        temperature: T, divides all logits.
        mean: Of several teachers' probabilities: "arithmetic", or "geometric", renormalised.
        mask: Config of the mask of head="dense".
        strides: The student's levels to compare with head="dense", where not all.
        schedule: See `Term`.
    """

    ensemble = True

    def __init__(
        self,
        head: str,
        weight: float,
        temperature: float = 4.0,
        mean: str = "arithmetic",
        mask: Mapping[str, Any] = dict(type="GtBoxMask"),
        strides: Sequence[int] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        dense = choice("head", head, HEADS) == "dense"
        self.source = DenseRows(mask, strides) if dense else RPNRows() if head == "rpn" else RoIRows()
        self.taps, self.mean = self.source.taps, choice("mean", mean, MEANS)
        self.temperature = at_least("temperature", temperature, 1e-3)

    def wire(self, student: Anatomy, teacher: Mapping[str, Anatomy]) -> None:
        self.sigmoid, classes = self.source.sigmoid(student), self.source.classes(student)
        self.shared = {name: one.class_map for name, one in teacher.items() if one.class_map and self.source.by_class}
        for name, one in teacher.items():
            if self.source.sigmoid(one) != self.sigmoid:
                raise ValueError(f"one of the student and teacher '{name}' has a softmax, the other sigmoids")
            if name not in self.shared and self.source.classes(one) != classes:
                raise ValueError(f"teacher '{name}' has {self.source.classes(one)} classes, the student {classes}")
            self.source.wire(student, one)

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        own, *its = self.source.rows([student, *teacher.values()], batch)
        rows = dict(zip(teacher, its, strict=True))
        general = [one for name, one in rows.items() if name not in self.shared]
        special = [(rows[name], shared) for name, shared in self.shared.items()]
        divergence = of_sigmoids if self.sigmoid else of_softmax
        return fair(divergence(own, general, special, self.temperature, self.mean), len(own))
