"""Average precision in two dimensions as KITTI's own program computes it (Geiger et al., CVPR 2012).

What that program, evaluate_object.cpp of the object development kit, does and one might not expect:

* Objects are taken in the file's order, not detections by score. A first pass, blind to score thresholds, gives each
  object its best-scored detection; the scores of these hits are the candidates for thresholds. A second pass, for each
  threshold, gives each object the detection it overlaps most; one that is too low counts only where no other is left.
* An object *at* the least height is ignored, a detection at that height counts. (Some copies let the object count.)
  Overlaps must exceed the least IoU; occlusion and truncation may equal their limits.
* A detection that is too low can take an object whatever its class; the object is then neither hit nor miss.
* Van and Person_sitting are ignored whatever their size, each taking one detection. DontCare takes any number.
* The k-th threshold stands at recall k/40 whatever recall it has. So with fewer than 41 objects even perfect detections
  stay below 1: with one object AP11 is 1/11 and AP40, which leaves out the first point, 0.

The Python ports, all from traveller59/kitti-object-eval-python, keep to this, but for thresholds with neither hit nor
false positive: the C++'s NaN stays at its point and spoils the mean, theirs spreads to every point before it. Here
alone we differ from both: such a precision is 0. A class without objects that count is NaN, where the C++ says 0; one
that was never detected is 0, where the C++ says nothing.

Source:
    evaluate_object.cpp as in sunnyln/kitti-devkit@83cde864; prclibo/kitti_eval@955c04c4 is a copy of the other kind.
"""

import math
from collections.abc import Sequence

import numpy as np

from det_distill.datasets.kitti_labels import Objects
from det_distill.metrics.kitti_matching import (
    MIN_IOU,
    Difficulty,
    Floats,
    at_thresholds,
    best_scored,
    by_score,
    frame_of,
)

POINTS = 41
DIFFICULTIES = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.3),
    "hard": Difficulty(25, 2, 0.5),
}


def precisions(truths: Sequence[Objects], found: Sequence[Objects], name: str, difficulty: Difficulty) -> Floats:
    """Precision of one class at the 41 recall points, made monotone from the right.

    Args:
        truths: Labels, a frame each.
        found: Results of the same frames, in the same order.
        name: A class, a key of `MIN_IOU`.
        difficulty: Which objects count.

    Returns:
        (41,), fractions; NaN where no object counts.
    """
    frames = [frame_of(truth, results, name, difficulty) for truth, results in zip(truths, found, strict=True)]
    objects = sum(int((~frame.ignored).sum()) for frame in frames)
    if not objects:
        return np.full(POINTS, math.nan)
    frames = [frame for frame in frames if len(frame.scores)]
    least = MIN_IOU[name]
    scores = [frame.scores[best_scored(frame, least)] for frame in frames]
    thresholds = recall_thresholds(np.concatenate([[], *scores]), objects)
    hits, false = np.zeros((2, len(thresholds)))
    for frame in frames:
        hit, wrong = at_thresholds(frame, thresholds, least)
        hits += hit
        false += wrong
    curve = np.zeros(POINTS)
    np.divide(hits, hits + false, out=curve[: len(thresholds)], where=hits > 0)
    return np.maximum.accumulate(curve[::-1])[::-1]


def ap11(curve: Floats) -> float:
    """Mean precision at recall 0, 0.1, ..., 1: the benchmark's number until 2019."""
    return float(curve[::4].mean())


def ap40(curve: Floats) -> float:
    """Mean precision at recall 1/40, 2/40, ..., 1: the benchmark's number since (Simonelli et al., ICCV 2019)."""
    return float(curve[1:].mean())


def recall_thresholds(scores: Floats, objects: int) -> Floats:
    """Those of the hits' scores that lie nearest to recall 0, 1/40, ..., 1, as far as recall gets; the last always.

    Args:
        scores: (N,), of hits.
        objects: Number of objects that count, at least N.

    Returns:
        At most 41, descending.
    """
    wanted, recall = [], 0.0
    for rank, score in enumerate(np.sort(scores)[::-1], 1):
        if rank < len(scores) and (rank + 1) / objects - recall < recall - rank / objects:
            continue
        wanted.append(score)
        recall += 1 / (POINTS - 1)  # adds up as in the C++, errors and all
    return np.array(wanted)


def average_precision(truths: Sequence[Objects], found: Sequence[Objects], name: str) -> float:
    """Area under the interpolated precision-recall curve of one class, with no difficulties: every object counts.

    Detections by falling score, in a frame equal ones in their order, each take the free object of the class that they
    overlap most; failing that a free neighbour or a DontCare area, which make them neither hit nor false. Every score
    is a point of the curve.

    Args:
        truths: Labels, a frame each.
        found: Results of the same frames, in the same order.
        name: A class, a key of `MIN_IOU`.

    Returns:
        A fraction; NaN where there is no object of the class.
    """
    everything = Difficulty(-math.inf, math.inf, math.inf)
    frames = [frame_of(truth, results, name, everything) for truth, results in zip(truths, found, strict=True)]
    objects = sum(int((~frame.ignored).sum()) for frame in frames)
    if not objects:
        return math.nan
    scores = np.concatenate([frame.scores for frame in frames])
    kinds = np.concatenate([by_score(frame, MIN_IOU[name]) for frame in frames])
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)[: len(order)]  # of equal scores
    hits, false = (np.cumsum(kinds[order] == kind)[last] for kind in (1, 0))
    precision = np.divide(hits, hits + false, out=np.zeros(len(hits)), where=hits > 0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(hits, prepend=0) / objects) @ best)
