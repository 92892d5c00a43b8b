"""Boxes moved to the teacher's decision boundary (boundary supporting samples, Heo et al., AAAI 2019)."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from det_distill.adapters import fitting
from det_distill.losses.boundary import base_samples, boundary_samples, sample_targets
from det_distill.losses.ensembles import softened
from det_distill.losses.hinton import soft_kl
from det_distill.ranks import fair
from det_distill.refusals import at_least
from det_distill.terms.base import Batch, Term
from det_distill.views.anatomy import Anatomy
from det_distill.views.comparison import same_classes, same_sizes


@MODELS.register_module()
class BoundarySamples(Term):
    """Soft labels of RoI features that were moved until the teacher takes them for another class.

    Base samples are RoIs that both nets judge right. Images are not perturbed: what moves are the teacher's RoI
    features, and the student's by the same displacement, translated by a 1x1 convolution that learns to give the
    student's features from the teacher's (part `translator`).

    Args:
        weight: Multiplier; the paper's starts at 2 and falls to 0 after 75% of training:
            `schedule=dict(type="Ramp", start=2, stop=0, begin=0, end=...)`.
        temperature: Divides both nets' logits; no factor T^2, as in the paper's code.
        num: At most so many base samples a batch (of one rank), those where the nets differ most.
        steps: At most so many steps towards the boundary.
        adapter: Config of the translator, channels inferred; None moves both nets' features alike.
        schedule: See `Term`.
    """

    taps = ("roi.features", "roi.logits", "roi.targets")

    def __init__(
        self,
        weight: float,
        temperature: float = 3.0,
        num: int = 64,
        steps: int = 10,
        adapter: dict[str, Any] | None = dict(type="ConvAdapter", kernel=1),  # noqa: B006 - read only
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.temperature = at_least("temperature", temperature, 1e-3)
        self.num, self.steps = int(at_least("num", num, 1)), int(at_least("steps", steps, 1))
        self._adapter = adapter

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        same_classes(student, teacher)
        narrow, wide = same_sizes(student, teacher, "roi.features")
        self.translator: nn.Module = fitting(self._adapter, wide, narrow, "'roi.features', translated to the student,")
        self.heads = (student.classify, teacher.classify)

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        labels = student["roi.targets"][0]
        base = base_samples(student["roi.logits"], teacher["roi.logits"], labels, self.num)
        own, its, labels = student["roi.features"][base], teacher["roi.features"][base], labels[base]
        other = sample_targets(teacher["roi.logits"][base], labels)
        classify, judge = self.heads
        moved = boundary_samples(its, judge, labels, other, self.steps)
        plain = self.translator(its)
        with torch.no_grad():
            shift = self.translator(moved) - plain
        goal = softened(judge(moved), self.temperature)
        value = fair(soft_kl(classify(own + shift), goal, self.temperature) / self.temperature**2, len(base))
        fit = fair(mse_loss(plain, own.detach(), reduction="sum") / max(1, own.numel()), len(base))
        return dict(boundary=value, translator=fit) if self._adapter else dict(boundary=value)
