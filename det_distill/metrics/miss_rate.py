"""Log-average miss rate of pedestrian and face detection (Dollár et al., PAMI 2012): lower is better.

Why these details: they are Piotr's toolbox's (pdollar/toolbox@1a0a7eb, detector/bbGt.m: evalRes, compRoc) and, for
heights, Caltech's dbEval.m. CityPersons' eval_MR_multisetup.py (@41ee750) matches alike, but where the curve starts
above a reference point its index is -1 and takes the curve's *last* value; the toolbox and we take miss rate 1.
dbEval.m also stretches boxes to one aspect ratio; here they stay as they are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray
from pycocotools import mask

from det_distill.metrics.means import known_mean
from det_distill.refusals import choice

# Reference points, false positives per image. By Python: np.logspace of numpy 1.26 is just below 0.1, and 1 in 10 not.
FPPI = np.array([10.0 ** (k / 4) for k in range(-8, 1)])
LEAST = 1e-10  # the toolbox's floor, for the log of a miss rate of 0
EXPANSION = 1.25  # dbEval.m: detections may leave the range of heights by this factor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def match(detections: Floats, scores: Floats, boxes: Floats, ignored: Floats, iou_thr: float = 0.5) -> Ints:
    """Greedily match one image's detections, best score first, equal scores in their order.

    A detection takes the free box it overlaps most (the last of equals); failing that, any ignored box absorbs it whose
    intersection covers `iou_thr` of the *detection's* area, and may absorb others.

    Args:
        detections: (D, 4), x1, y1, x2, y2 in pixels; a side is x2 - x1.
        scores: (D,).
        boxes: (G, 4), objects to find.
        ignored: (I, 4), objects or regions that do not matter.
        iou_thr: Least overlap, inclusive.

    Returns:
        (D,): 1 hit, 0 false positive, -1 absorbed.
    """
    matched = np.zeros(len(detections), np.int64)
    truth = np.concatenate([boxes, ignored])
    if not len(detections) or not len(truth):
        return matched
    absorbs = np.arange(len(truth)) >= len(boxes)
    overlaps = mask.iou(_xywh(detections), _xywh(truth), absorbs)  # (D, G + I); of the detection's area if `absorbs`
    taken = np.zeros(len(boxes), bool)
    for d in np.argsort(-scores, kind="stable"):
        free = np.where(taken, 0.0, overlaps[d, : len(boxes)])
        if free.max(initial=0.0) >= iou_thr:
            taken[np.flatnonzero(free == free.max())[-1]] = True
            matched[d] = 1
        elif overlaps[d, len(boxes) :].max(initial=0.0) >= iou_thr:
            matched[d] = -1
    return matched


def log_average_miss_rate(scores: Floats, matched: Ints, images: int, objects: int) -> float:
    """Geometric mean of the miss rate at nine numbers of false positives per image, 0.01 to 1.

    At each point it is the curve's value at the largest FPPI not above the point; 1 where the curve starts above it.

    Args:
        scores: (D,), of all images' detections.
        matched: (D,), what `match` says of each.
        images: Number of images, those without objects or detections too.
        objects: Number of objects, without ignored ones.

    Returns:
        A fraction, from 1e-10 to 1; NaN where there is no object.
    """
    if not objects:
        return float("nan")
    counts = matched >= 0
    hit = matched[counts][np.argsort(-scores[counts], kind="stable")]
    fppi = np.cumsum(1 - hit) / images
    missed = 1 - np.concatenate([[0], np.cumsum(hit)]) / objects  # before the first detection, after each
    at_points = missed[np.searchsorted(fppi, FPPI, side="right")]
    return float(np.exp(np.log(np.maximum(at_points, LEAST)).mean()))


@METRICS.register_module()
class MissRateMetric(BaseMetric):
    """`miss_rate/MR-2`; with several classes their mean, and `miss_rate/MR-2_<class>` each.

    The ground truth is what VOCMetric takes: `gt_instances` and `ignored_instances`, so `LoadAnnotations` stands after
    `Resize` in the test pipeline. An ignored instance (VOC's difficult, COCO's crowd) absorbs detections of its class.
    A class without objects is NaN, and no part of the mean.

    Args:
        classes: Names of the classes to evaluate; all by default.
        height_range: Pixels, from the first to below the second: (50, inf) is Caltech's and CityPersons' "reasonable"
            (without its visibility). Objects of other heights are ignored; detections are dropped that leave the range
            by more than a factor of 1.25.
        iou_thr: Least overlap of a hit.
        **kwargs: BaseMetric's.

    Raises:
        ValueError: A class that the data set lacks, an empty range, a threshold beyond (0, 1], or samples without
            ground truth.
    """

    default_prefix = "miss_rate"

    def __init__(
        self,
        classes: str | Sequence[str] | None = None,
        height_range: tuple[float, float] = (0.0, float("inf")),
        iou_thr: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes = (classes,) if isinstance(classes, str) else tuple(classes or ())
        self.low, self.high = height_range
        self.iou_thr = iou_thr
        if not 0 <= self.low < self.high:
            raise ValueError(f"height_range={height_range}; two heights in pixels are expected, the smaller one first")
        if not 0 < iou_thr <= 1:
            raise ValueError(f"iou_thr={iou_thr}; a number above 0 and up to 1 is expected")

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Match each image's detections: per class their scores, what became of them, and the number of objects."""
        for sample in data_samples:
            self.results.append([self._match(sample, label) for label in self._labels().values()])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Fractions, by name."""
        rates = {}
        for name, images in zip(self._labels(), zip(*results, strict=True), strict=True):
            scores, matched, objects = zip(*images, strict=True)
            joined = np.concatenate(scores), np.concatenate(matched)
            rates[f"MR-2_{name}"] = log_average_miss_rate(*joined, len(images), sum(objects))
        return {"MR-2": known_mean(rates.values())} | (rates if len(rates) > 1 else {})

    def _labels(self) -> dict[str, int]:
        known = list(self.dataset_meta["classes"])
        return {name: known.index(choice("MissRateMetric.classes", name, known)) for name in self.classes or known}

    def _match(self, sample: dict, label: int) -> tuple[Floats, Ints, int]:
        if "bboxes" not in sample.get("gt_instances", ()):
            raise ValueError(
                "MissRateMetric finds no ground truth in the samples; expected "
                "dict(type='LoadAnnotations', with_bbox=True) after Resize in the test pipeline"
            )
        boxes, ignored = (_of_class(sample[key], label) for key in ("gt_instances", "ignored_instances"))
        detections = _of_class(sample["pred_instances"], label)
        scores = _of_class(sample["pred_instances"], label, "scores")
        fits = _within(boxes, self.low, self.high)
        near = _within(detections, self.low / EXPANSION, self.high * EXPANSION)
        ignored = np.concatenate([ignored, boxes[~fits]])
        matched = match(detections[near], scores[near], boxes[fits], ignored, self.iou_thr)
        return scores[near], matched, int(fits.sum())


def _of_class(instances: dict, label: int, field: str = "bboxes") -> Floats:
    chosen = instances["labels"].cpu().numpy() == label
    return instances[field].cpu().numpy()[chosen].astype(np.float64)


def _within(boxes: Floats, low: float, high: float) -> NDArray[np.bool_]:
    heights = boxes[:, 3] - boxes[:, 1]
    return (heights >= low) & (heights < high)


def _xywh(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
