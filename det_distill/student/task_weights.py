"""How much the student's own losses count beside what the terms add."""

from collections.abc import Mapping
from typing import Any

from mmdet.registry import TASK_UTILS

from det_distill.building import build
from det_distill.refusals import at_least, blamed, suggestion
from det_distill.schedules import factor


class TaskWeights(dict[str, Any]):
    """Multipliers of the student's own losses by their log name: numbers, or schedules.

    Args:
        given: Numbers or configs of schedules.

    Raises:
        ValueError: It is no dict, or a value neither of these; names the loss.
    """

    def __init__(self, given: Mapping[str, float | Mapping[str, Any]] | None) -> None:
        if not isinstance(given, Mapping | None):
            raise ValueError(f"task_weights={given!r:.80}; a dict of numbers or schedules is expected")
        super().__init__()
        for key, one in (given or {}).items():
            with blamed(f"task_weights.{key}"):
                self[key] = build(TASK_UTILS, one) if isinstance(one, Mapping) else at_least("weight", one, 0)

    def __call__(self, losses: dict[str, Any]) -> dict[str, Any]:
        """The losses, those that are named here multiplied.

        Raises:
            ValueError: A name is none of theirs.
        """
        for key, given in self.items():
            if key not in losses:
                raise ValueError(
                    f"task_weights.{key} names none of the student's losses{suggestion(key, losses)}; it logs "
                    f"{', '.join(losses)}"
                )
            weight, found = factor(given) if callable(given) else given, losses[key]
            losses[key] = [one * weight for one in found] if isinstance(found, list | tuple) else found * weight
        return losses
