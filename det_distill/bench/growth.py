"""How the cost of distilling grows with what it is given: pixels, images, boxes, terms and teachers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS

from det_distill.bench.plot import plot
from det_distill.bench.record import opened
from det_distill.bench.turns import in_turns
from det_distill.bench.untrained import drawn
from det_distill.configs import opened_distiller
from det_distill.dry_run import begun, go_back, made_up
from det_distill.overview import table
from det_distill.refusals import at_least

SHAPE, IMAGES, BOXES = (240, 320), 2, 8  # of every point, but in what grows
SIZES = (0.5, 1.0, 2.0, 4.0)  # times so many pixels
GROWING = dict(images=(1, 2, 4, 8), boxes=(1, 8, 64, 256), terms=(1, 2, 4, 8), teachers=(1, 2, 4))
HEAD = ["of", "amounts", "student alone, ms", "distilled, ms", "slope of the step", "slope of what distilling adds"]
Curve = list[tuple[float, list[float], list[float]]]  # amount; seconds of the student's own step, of the distilled one


def growth(
    config: str,
    rounds: int = 5,
    device: str = "cpu",
    folder: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> str:
    """Time the student's own step and the distilled one, in turns, of ever more of one thing at a time.

    To have more terms or teachers the config's are copied; the teachers' weights are drawn. A slope is that of the
    times' logarithms over the amounts', by least squares: 1 where twice as much takes twice as long.

    Args:
        config: Path of a distillation config with one teacher.
        rounds: Rounds, in each of which every point has its turn; medians are told. One more comes first.
        device: Where, such as "cuda".
        folder: Where five plots and `growth.json` shall be; none by default.
        cfg_options: Dotted keys to change in the config.

    Returns:
        A table.

    Raises:
        FileNotFoundError: No such config.
        OSError: `folder` cannot be written, before anything is timed.
        ValueError: It is no Distiller's or cannot be wired.
    """
    at_least("rounds", rounds, 1)
    file = opened(str(Path(folder, "growth.json"))) if folder else None
    with TemporaryDirectory() as weights:
        options = dict(cfg_options or {}) | drawn(config, weights, cfg_options)
        model = opened_distiller(config, options).model
        points = {axis: dict(_points(axis, model, device)) for axis in ("pixels", *GROWING)}
    calls = {
        (axis, amount, which): call
        for axis, amounts in points.items()
        for amount, pair in amounts.items()
        for which, call in enumerate(pair)
    }
    times = in_turns(calls, rounds, device)
    curves = {
        axis: [(amount, times[axis, amount, 0], times[axis, amount, 1]) for amount in amounts]
        for axis, amounts in points.items()
    }
    if file:
        told = dict(torch=torch.__version__, device=device, config=config, seconds=curves)
        file.write_text(json.dumps(told, indent=1))
        for axis, curve in curves.items():
            plot(axis, medians(curve), slopes(curve), file.with_name(f"{axis}.png"))
    rows = [[axis, *_told(curve)] for axis, curve in curves.items()]
    return table(f"medians of {rounds} on {device}, {torch.get_num_threads()} threads", HEAD, rows)


def _points(axis: str, model: Any, device: str) -> Iterator[tuple[float, tuple[Callable[[], None], ...]]]:
    """Each amount of one thing, with a call of the student's own step and one of the distilled step."""
    if axis in ("terms", "teachers"):
        for count in GROWING[axis]:
            yield count, _calls(_copied(model, **{axis: count}), SHAPE, IMAGES, BOXES, device)
        return
    built = MODELS.build(model)
    if axis == "pixels":
        for times in SIZES:
            shape = tuple(32 * round(side * times**0.5 / 32) for side in SHAPE)
            yield shape[0] * shape[1], _calls(built, shape, IMAGES, BOXES, device)
    for count in GROWING.get(axis, ()):
        given: dict[str, Any] = dict(shape=SHAPE, images=IMAGES, boxes=BOXES) | {axis: count}
        yield count, _calls(built, device=device, **given)


def _copied(model: Any, terms: int = 1, teachers: int = 1) -> Any:
    """The Distiller of a config with each term so many times, for each of so many teachers."""
    names = [f"t{index}" for index in range(teachers)]
    several = {
        f"{key}_{name}_{index}": dict(term, teacher=name)
        for key, term in model.terms.items()
        for name in names
        for index in range(terms)
    }
    return MODELS.build(dict(model, teacher={name: dict(model.teacher) for name in names}, terms=several))


def _calls(
    model: Any, shape: Sequence[int], images: int, boxes: int, device: str
) -> tuple[Callable[[], None], Callable[[], None]]:
    begun(model.to(device))
    given = made_up((shape[0], shape[1]), images, boxes, device)

    def step(losses: Callable[..., Any]) -> None:
        go_back(model, losses(*given))

    return partial(step, model.student.loss), partial(step, model.loss)


def medians(curve: Curve) -> list[tuple[float, float, float]]:
    """Of each amount the median of the student's own times, and of those of the distilled step."""
    return [(amount, median(own), median(whole)) for amount, own, whole in curve]


def slopes(curve: Curve) -> tuple[float, float]:
    """Of the distilled step, and of what distilling adds to the student's; nan where that is nothing."""
    amounts, own, whole = (np.array(part) for part in zip(*medians(curve), strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        added = np.log(np.where(whole > own, whole - own, np.nan))
    steps, extra = (np.polyfit(np.log(amounts), one, 1)[0] for one in (np.log(whole), added))
    return float(steps), float(extra)


def _told(curve: Curve) -> list[str]:
    amounts, *times = zip(*medians(curve), strict=True)
    shown = [", ".join(f"{1e3 * one:.0f}" for one in part) for part in times]
    return [", ".join(f"{one:g}" for one in amounts), *shown, *(f"{one:.2f}" for one in slopes(curve))]
