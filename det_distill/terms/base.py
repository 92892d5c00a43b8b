"""What every term of a distillation has: a weight, a schedule, and two moments, `wire` and `forward`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor, nn

from det_distill.building import build
from det_distill.refusals import at_least
from det_distill.scene import Scene
from det_distill.schedules import factor
from det_distill.views.anatomy import Anatomy

HEADS = ("roi", "rpn")


@dataclass(frozen=True)
class Batch:
    """What a term may know of a batch beside features.

    Attributes:
        scene: Ground truth, in pixels of the student's input.
        samples: MMDetection's data samples, likewise.
        priors: The student's prior generator.
    """

    scene: Scene
    samples: Sequence[Any]
    priors: Any


class Term(nn.Module):
    """A weighted difference between what student and teacher show.

    A subclass names its `taps`, checks and builds its parts in `wire`, and returns the unweighted value (or
    a dict of parts) in `forward`; the Distiller multiplies by `strength()`.

    Args:
        weight: Multiplier of the term's value in the student's loss.
        schedule: Config of a schedule (`Warmup`, `Ramp`, `Decay`, `Window`), or None for a constant weight.

    In a config a term may also name its `teacher`, where there are several.
    """

    taps: tuple[str, ...] = ()
    ensemble = False  # whether it learns from several teachers at once
    teachers: tuple[str, ...] = ()  # whom it learns from, by name

    def __init__(self, weight: float, schedule: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.weight = at_least("weight", weight, 0)
        self.schedule = build(TASK_UTILS, schedule) if schedule else None

    def strength(self) -> float:
        """Weight times schedule at the running step and epoch (0 and 0 outside a Runner)."""
        return self.weight * factor(self.schedule)

    def chosen(self, teachers: Mapping[str, Any]) -> Any:
        """Of something by teacher, its own teacher's; with `ensemble`, that of each of its teachers by name."""
        return {one: teachers[one] for one in self.teachers} if self.ensemble else teachers[self.teachers[0]]

    def wire(self, student: Anatomy, teacher: Any) -> None:
        """Check that both sides fit, and build what depends on their channels.

        Args:
            student: The student.
            teacher: The teacher's `Anatomy`; with `ensemble`, that of each of its teachers by name.

        Raises:
            ValueError: The term cannot be wired.
        """

    def forward(self, student: Mapping[str, Any], teacher: Any, batch: Batch) -> Tensor | dict[str, Tensor]:
        """The unweighted value: a scalar, or scalars by part.

        Args:
            student: What the student showed of the batch, by tap.
            teacher: What the teacher shows of it, by tap; with `ensemble`, that of each of its teachers by name.
            batch: Ground truth and priors.
        """
        raise NotImplementedError


def per_anchor(maps: Sequence[Tensor], values: int) -> Tensor:
    """(B, A * values, H, W) of every level as (N, values): by level, image, row, column, anchor, as targets lie."""
    return torch.cat([one.permute(0, 2, 3, 1).reshape(-1, values) for one in maps])
