"""What every term of a distillation has: a weight, a schedule, and two moments, `wire` and `forward`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdet.registry import TASK_UTILS
from mmengine.logging import MessageHub
from torch import Tensor, nn

from det_distill.configs import build
from det_distill.scene import Scene


@dataclass(frozen=True)
class Batch:
    """What a term may know of a batch beside features: ground truth and the student's priors."""

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
    """

    taps: tuple[str, ...] = ()

    def __init__(self, weight: float, schedule: dict[str, Any] | None = None) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight={weight}; a term's weight is a number of at least 0")
        self.weight = weight
        self.schedule = build(TASK_UTILS, schedule) if schedule else None

    def strength(self) -> float:
        """Weight times schedule at the running step and epoch (0 and 0 outside a Runner)."""
        if self.schedule is None:
            return self.weight
        hub = MessageHub.get_current_instance()
        step, epoch = (int(hub.get_info(key, 0)) for key in ("iter", "epoch"))
        return self.weight * self.schedule(step, epoch)

    def wire(self, student: Mapping[str, Any], teacher: Mapping[str, Any], priors: Any) -> None:
        """Check that both sides fit, and build what depends on their channels.

        Args:
            student: By tap, what the dry run found: a `MapSpec` per level, or the shape behind N.
            teacher: The same of the teacher.
            priors: The student's prior generator.

        Raises:
            ValueError: The term cannot be wired.
        """

    def forward(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch
    ) -> Tensor | dict[str, Tensor]:
        """The unweighted value: a scalar, or scalars by part."""
        raise NotImplementedError
