"""Who takes whom in one frame of KITTI, as KITTI's own program has it; `kitti_ap` says what is odd about that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from det_distill.datasets.kitti_labels import Objects

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_IOU = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOURS = {"Car": "Van", "Pedestrian": "Person_sitting"}


@dataclass(frozen=True)
class Difficulty:
    """Which objects count: those higher than `height` px, no more than so much occluded and truncated."""

    height: float
    occlusion: float
    truncation: float


@dataclass(frozen=True)
class Frame:
    """One frame as one class sees it.

    G objects of the class and its neighbour, D detections of the class (or too low), each in the file's order.
    """

    overlaps: Floats  # (G, D), IoU
    ignored: Bools  # (G,), objects that are neither hit nor miss
    scores: Floats  # (D,)
    low: Bools  # (D,), detections that are too low to count
    absorbed: Bools  # (D,), in a DontCare area


def frame_of(truth: Objects, found: Objects, name: str, difficulty: Difficulty) -> Frame:
    """What a class sees of a frame's labels and results.

    Raises:
        ValueError: The results have no scores.
    """
    if found.scores is None:
        raise ValueError("detections have no scores; expected those of a result file")
    types, kinds = np.array(truth.types, str), np.array(found.types, str)
    height = truth.boxes[:, 3] - truth.boxes[:, 1]
    hard = (truth.occluded > difficulty.occlusion) | (truth.truncated > difficulty.truncation)
    counts = (types == name) & ~hard & (height > difficulty.height)
    near = np.isin(types, [name, NEIGHBOURS.get(name, name)])
    low = np.abs(found.boxes[:, 3] - found.boxes[:, 1]) < difficulty.height
    seen = (kinds == name) | low
    boxes = found.boxes[seen]
    areas = _shared(truth.boxes[types == "DontCare"], boxes) / np.maximum(_size(boxes), 1e-300)
    together = _shared(truth.boxes[near], boxes)
    union = _size(truth.boxes[near])[:, None] + _size(boxes) - together
    return Frame(
        overlaps=np.divide(together, union, out=np.zeros_like(union), where=together > 0),
        ignored=~counts[near],
        scores=found.scores[seen],
        low=low[seen],
        absorbed=areas.max(0, initial=0.0) > MIN_IOU[name],
    )


def _size(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _shared(some: Floats, others: Floats) -> Floats:
    """(S, 4) and (O, 4) to (S, O): areas of the intersections."""
    sides = np.minimum(some[:, None, 2:], others[:, 2:]) - np.maximum(some[:, None, :2], others[:, :2])
    return np.maximum(sides, 0).prod(-1)


def _take(frame: Frame, free: Bools, appeal: Floats) -> Bools:
    """Objects, in their order, take the free detection of greatest appeal, the first of equals.

    Args:
        frame: One frame.
        free: (T, D), per threshold; what is taken is free no more.
        appeal: (G, D), -inf where the detection cannot be taken.

    Returns:
        (T, D): true positives.
    """
    hits = np.zeros_like(free)
    for wanted, ignored in zip(appeal, frame.ignored, strict=True):
        offers = np.where(free, wanted, -np.inf)
        best = offers.argmax(1)
        rows = np.flatnonzero(offers.max(1) > -np.inf)
        free[rows, best[rows]] = False
        hits[rows, best[rows]] = ~frame.low[best[rows]] & ~ignored
    return hits


def best_scored(frame: Frame, least: float) -> Bools:
    """(D,): the hits of the first pass."""
    appeal = np.where(frame.overlaps > least, frame.scores, -np.inf)
    return _take(frame, np.ones((1, len(frame.scores)), bool), appeal)[0]


def at_thresholds(frame: Frame, thresholds: Floats, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(T,) hits and (T,) false positives of the second pass."""
    low = -np.arange(1.0, 1 + len(frame.scores))  # below any overlap; of those too low the first
    appeal = np.where(frame.overlaps > least, np.where(frame.low, low, frame.overlaps), -np.inf)
    free = frame.scores >= thresholds[:, None]
    hits = _take(frame, free, appeal)
    return hits.sum(1), (free & ~frame.low & ~frame.absorbed).sum(1)


def by_score(frame: Frame, least: float) -> NDArray[np.int64]:
    """(D,): 1 hit, 0 false positive, -1 neither."""
    kinds = np.where(frame.absorbed, -1, 0)
    near = np.where(frame.overlaps > least, frame.overlaps + 2 * ~frame.ignored[:, None], 0)  # neighbours come last
    for d in np.argsort(-frame.scores, kind="stable"):
        taken = near[:, d].argmax() if len(near) else 0
        if near[taken : taken + 1, d].any():
            kinds[d] = -1 if frame.ignored[taken] else 1
            near[taken] = 0
    return kinds
