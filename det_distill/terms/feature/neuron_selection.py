"""The teacher's telling neurons (face model compression by distilling neurons, Luo et al., AAAI 2016)."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from det_distill.adapters import fitting
from det_distill.losses.neuron_selection import select_neurons
from det_distill.losses.proposals import proposal_mimic
from det_distill.ranks import fair, joined
from det_distill.refusals import at_least
from det_distill.terms.base import Batch, Term
from det_distill.views.anatomy import Anatomy


@MODELS.register_module()
class NeuronSelection(Term):
    """Regresses those teacher neurons of the RoI embedding that tell classes apart, whatever a box's size or crop.

    The first `samples` positive boxes of training say which: a neuron is wanted for the classes it fires on, unwanted
    for firing on small, large or truncated boxes, and for resembling others. Until then the value is 0.

    Args:
        weight: Multiplier.
        budget: How many neurons are kept.
        samples: How many positive boxes to select by.
        coupling: How much the likeness of two neurons weighs.
        adapter: Config of the student's regressor, channels inferred.
        schedule: See `Term`.
    """

    taps = ("roi.embedding", "roi.rois", "roi.targets")

    def __init__(
        self,
        weight: float,
        budget: int = 128,
        samples: int = 2000,
        coupling: float = 0.5,
        adapter: dict[str, Any] | None = dict(type="LinearAdapter"),  # noqa: B006 - read only
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.budget, self.samples = int(at_least("budget", budget, 1)), int(at_least("samples", samples, 2))
        self.coupling, self._adapter = at_least("coupling", coupling, 0), adapter
        self.neurons: Tensor | None = None
        self.survey = _Survey()

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        self.classes = student.head.num_classes
        if self.classes < 2:
            raise ValueError("with one class no neuron tells classes apart")
        at_least("the number of the teacher's neurons", teacher.length("roi.embedding"), self.budget)
        self.adapter = fitting(self._adapter, student.length("roi.embedding"), self.budget, "the neurons chosen")

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        labels, own, its = student["roi.targets"][0], student["roi.embedding"], teacher["roi.embedding"]
        chosen = (labels < self.classes).nonzero().squeeze(1)
        if self.neurons is None:
            self.survey.add(its[chosen], labels[chosen], student["roi.rois"][chosen], batch)
            if self.survey.size < self.samples:
                return 0 * self.adapter(own[chosen]).sum()
            found = self.survey.close(self.samples, self.classes)
            self.neurons = select_neurons(*found, self.budget, self.coupling)
        goal = its[chosen][:, self.neurons.to(its.device)]
        return fair(proposal_mimic(self.adapter(own[chosen]), goal, normalise=False), len(goal))

    def get_extra_state(self) -> dict[str, Any]:
        return dict(neurons=self.neurons, seen=self.survey.seen)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.neurons, self.survey.seen = state["neurons"], state["seen"]


class _Survey:
    """Boxes so far: per step the teacher's activations, classes, areas, and whether the image's border cuts them."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, ...]] = []

    @property
    def size(self) -> int:
        return sum(len(labels) for _, labels, *_ in self.seen)

    def add(self, activations: Tensor, labels: Tensor, rois: Tensor, batch: Batch) -> None:
        height, width = torch.tensor(batch.scene.shapes).to(rois, non_blocking=True)[rois[:, 0].long()].T
        _, x1, y1, x2, y2 = rois.T
        cut = (x1 <= 0) | (y1 <= 0) | (x2 >= width) | (y2 >= height)
        found = (activations.detach(), labels, (x2 - x1) * (y2 - y1), cut)
        self.seen.append(tuple(map(joined, found)))  # so that all ranks choose the same neurons

    def close(self, samples: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Activations (M, D), classes (M, K) and nuisances (M, 3) of the first M boxes; the survey forgets them."""
        device = self.seen[-1][0].device  # a resumed run's begin on another
        parts = [torch.cat([one.to(device) for one in part])[:samples] for part in zip(*self.seen, strict=True)]
        self.seen = []
        activations, labels, area, cut = parts
        return activations, labels[:, None] == torch.arange(classes, device=device), _nuisances(area, cut)


def _nuisances(area: Tensor, truncated: Tensor) -> Tensor:
    """(N, 3): among the smallest third, among the largest, truncated."""
    low, high = area.float().quantile(torch.tensor([1 / 3, 2 / 3], device=area.device))
    return torch.stack((area < low, area > high, truncated), dim=1)
