"""KITTI's label and result files: one object a line, 15 columns, in results the score as a 16th.

The columns: type, truncated, occluded, alpha, x1, y1, x2, y2, height, width, length, x, y, z, rotation_y. A box is in
pixels from 0, its width x2 - x1; what is unknown, as all but the box is in DontCare areas, is -1, -10 or -1000.

Source:
    readme.txt of KITTI's object development kit (Geiger et al., CVPR 2012).
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from det_distill.datasets.plain_text import decoded

Floats = NDArray[np.float64]

TYPES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")
UNKNOWN = (-1, -1, -10, *4 * [math.nan], *3 * [-1], *3 * [-1000], -10)  # after the type; a box is never unknown
COLUMNS = 1 + len(UNKNOWN)
BOX = slice(3, 7)  # behind the type


@dataclass(frozen=True)
class Objects:
    """What one file says of one frame.

    Attributes:
        types: N names out of `TYPES`.
        columns: (N, 14) float64, the numbers after the type, in the file's order.
        scores: (N,) float64 of results, None of labels.
    """

    types: tuple[str, ...]
    columns: Floats
    scores: Floats | None = None

    @property
    def truncated(self) -> Floats:
        """(N,), 0 to 1: how much of the object lies outside the image; -1 if unknown."""
        return self.columns[:, 0]

    @property
    def occluded(self) -> Floats:
        """(N,), 0 fully visible, 1 partly, 2 largely occluded, 3 unknown; -1 for DontCare."""
        return self.columns[:, 1]

    @property
    def boxes(self) -> Floats:
        """(N, 4), x1, y1, x2, y2 in pixels."""
        return self.columns[:, BOX]


def detections(types: Sequence[str], boxes: Floats, scores: Floats) -> Objects:
    """Results in two dimensions: every other column is unknown.

    Args:
        types: N names out of `TYPES`.
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        scores: (N,).

    Raises:
        ValueError: The lengths disagree.
    """
    if boxes.shape != (len(types), 4) or scores.shape != (len(types),):
        raise ValueError(f"{len(types)} types, want (N, 4) boxes and (N,) scores, got {boxes.shape} and {scores.shape}")
    columns = np.tile(np.array(UNKNOWN, np.float64), (len(types), 1))
    columns[:, BOX] = boxes
    return Objects(tuple(types), columns, scores.astype(np.float64))


def read_labels(path: Path | str, scored: bool = False) -> Objects:
    """Read a label file, or, `scored`, one of results.

    Raises:
        ValueError: No UTF-8, or a broken line; says file, line and what was expected.
    """
    return parse_labels(decoded(Path(path).read_bytes(), path), path, scored)


def parse_labels(text: str, path: Path | str, scored: bool = False) -> Objects:
    """What `read_labels` reads, from a file's text; `path` is for messages."""
    types, rows = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                name, row = _parsed(line.split(), scored)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            types.append(name)
            rows.append(row)
    table = np.array(rows, np.float64).reshape(len(rows), len(UNKNOWN) + scored)
    return Objects(tuple(types), table[:, : len(UNKNOWN)], table[:, -1] if scored else None)


def _parsed(words: list[str], scored: bool) -> tuple[str, list[float]]:
    """Type and numbers of one line."""
    expected = COLUMNS + scored
    if len(words) != expected:
        raise ValueError(f"{len(words)} columns, expected {expected} ({'results' if scored else 'labels'})")
    name, *rest = words
    if name not in TYPES:
        close = difflib.get_close_matches(name, TYPES, n=1, cutoff=0.5)
        hint = f", did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"type '{name:.40}' is unknown{hint}; known: {', '.join(TYPES)}")
    numbers = [_number(word, column) for column, word in enumerate(rest, 2)]
    x1, y1, x2, y2 = numbers[BOX]
    if x2 < x1 or y2 < y1:
        raise ValueError(f"box {x1:g} {y1:g} {x2:g} {y2:g}, expected x1 <= x2 and y1 <= y2")
    return name, numbers


def _number(word: str, column: int) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"column {column} is '{word:.40}', expected a number")
    return number


def write_labels(path: Path | str, objects: Objects) -> None:
    """Write a label file, or one of results where there are scores; what is read back is equal to the bit."""
    lines = []
    for i, (name, row) in enumerate(zip(objects.types, objects.columns, strict=True)):
        words = [_word(value, unknown) for value, unknown in zip(row.tolist(), UNKNOWN, strict=True)]
        words[1] = f"{row[1]:g}"  # the development kit reads whole numbers here
        score = [] if objects.scores is None else [repr(float(objects.scores[i]))]
        lines.append(" ".join([name, *words, *score]) + "\n")
    Path(path).write_text("".join(lines))


def _word(value: float, unknown: float) -> str:
    """Two decimals as in KITTI's own files, or as many as the number has."""
    if value == unknown:
        return f"{value:g}"
    short = f"{value:.2f}"
    return short if float(short) == value else repr(value)
