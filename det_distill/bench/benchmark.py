"""What a distilled step costs beside the student's own, timed in turns."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from det_distill.bench.record import opened
from det_distill.bench.turns import milliseconds, ratio, timed
from det_distill.bench.untrained import drawn
from det_distill.dry_run import begun, go_back, made_up
from det_distill.overview import distiller_of, table
from det_distill.refusals import at_least

HEAD = ["config", "student, ms", "teacher, ms", "distilled, ms", "distilled / student", "overhead"]
Times = tuple[float, float, float]  # seconds: the student's own step, the teachers' part, the distilled step


def benchmark(
    configs: Sequence[str],
    steps: int = 20,
    batch: int = 4,
    shape: Sequence[int] | None = None,
    device: str = "cpu",
    out: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    untrained: bool = False,
) -> str:
    """Time a step (losses and backward pass, no optimiser) of each config, in turns, so that noise falls on all alike.

    `overhead` is the distilled step over the sum of the student's own step and the teachers' part in the distilled one:
    what the terms themselves cost, 1 for nothing. Schedules count as begun, stages as over.

    Args:
        configs: Paths of distillation configs.
        steps: Rounds; medians are told. One more comes first, to warm up.
        batch: Images a step, of noise, with eight boxes each.
        shape: Height and width; by default as each training pipeline resizes.
        device: Where, such as "cuda".
        out: JSON file for all times, in seconds.
        cfg_options: Dotted keys to change in each config.
        untrained: Draw the teachers' weights instead of reading checkpoints.

    Returns:
        A table of medians.

    Raises:
        FileNotFoundError: A config or checkpoint is not there.
        OSError: `out` cannot be written, before anything is timed.
        ValueError: A config is no Distiller's or cannot be wired, or a number is below 1.
    """
    at_least("steps", steps, 1)
    at_least("batch", batch, 1)
    file = opened(out) if out else None
    with TemporaryDirectory() if untrained else nullcontext("") as folder:
        options = {one: (cfg_options or {}) | (drawn(one, folder, cfg_options) if untrained else {}) for one in configs}
        races = {config: _Race(config, batch, shape, device, options[config]) for config in configs}
    times: dict[str, list[Times]] = {config: [] for config in races}
    for turn in range(steps + 1):
        for config, race in races.items():
            found = race.run()
            if turn:
                times[config].append(found)
    if file:
        file.write_text(json.dumps(dict(torch=torch.__version__, device=device, batch=batch, seconds=times)))
    rows = [[config, *_told(found)] for config, found in times.items()]
    return table(f"batch {batch}, medians of {steps} on {device}, {torch.get_num_threads()} threads", HEAD, rows)


def _told(times: Sequence[Times]) -> list[str]:
    student, teacher, distilled = zip(*times, strict=True)
    medians = [milliseconds(part) for part in (student, teacher, distilled)]
    return [*medians, f"{ratio(distilled, student):.2f}", f"{ratio(distilled, student, teacher):.3f}"]


class _Race:
    """One config's student: its own step and the distilled one."""

    def __init__(
        self, config: str, batch: int, shape: Sequence[int] | None, device: str, options: dict[str, Any] | None
    ) -> None:
        model, size = distiller_of(config, shape, options)
        self.model = model.to(device)
        begun(self.model)
        self.watch = self.model.teachers.watch
        self.images = made_up(size, batch, device=device)
        self.device, self.teacher = device, 0.0

    def run(self) -> Times:
        own = timed(self._alone, self.device)
        self.teacher = 0.0
        with patch.object(self.model.teachers, "watch", self._watched):
            whole = timed(lambda: go_back(self.model, self.model.loss(*self.images)), self.device)
        return own, self.teacher, whole

    def _alone(self) -> None:
        go_back(self.model, self.model.student.loss(*self.model.shrink(*self.images)[1:]))

    def _watched(self, *args: Any) -> Any:
        shown: list[Any] = []
        self.teacher += timed(lambda: shown.append(self.watch(*args)), self.device)
        return shown[0]
