"""COCO AP computed in C++ by faster-coco-eval: MMDetection's CocoMetric otherwise, to the last digit it reports."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

from mmdet.evaluation.metrics import CocoMetric, coco_metric
from mmdet.registry import METRICS


@METRICS.register_module(force=True)  # the onedl stack has one of this name, whose AP is not COCO's
class FasterCocoMetric(CocoMetric):
    """CocoMetric, whose COCOeval is faster-coco-eval's while it computes.

    Why a patch: CocoMetric takes COCOeval from its own module. It sees the other one during this call only, and nobody
    else does. faster-coco-eval wants whole numbers as image ids, VOC's are names: without `ann_file` images are counted
    as they come, so a json written by `outfile_prefix` has these numbers; with `format_only` it has the ids.

    Args:
        **kwargs: CocoMetric's.

    Raises:
        ValueError: The package is not there or does not load, or `use_mp_eval` is set, which is CocoMetric's own way
            to be faster.

    Source:
        MiXaiLL76/faster_coco_eval; tested with 1.8.0.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.use_mp_eval:
            raise ValueError("use_mp_eval=True has no meaning for FasterCocoMetric; leave it out, or use CocoMetric")
        self.evaluator = _evaluator()
        self._counts_images = self._coco_api is None and not self.format_only

    def compute_metrics(self, results: list) -> dict[str, float]:
        """CocoMetric's, by the other evaluator."""
        if self._counts_images:
            # In the order of the ids, as pycocotools walks through the images: it settles equal scores.
            numbers = {img_id: i for i, img_id in enumerate(sorted(found["img_id"] for _, found in results))}
            results = [tuple(part | dict(img_id=numbers[part["img_id"]]) for part in pair) for pair in results]
        with mock.patch.object(coco_metric, "COCOeval", self.evaluator):
            metrics: dict[str, float] = super().compute_metrics(results)
        return metrics


def _evaluator() -> Callable[..., Any]:
    """The class, with pycocotools' first number, and printing its table as that does."""
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise ValueError(
            f"FasterCocoMetric needs faster-coco-eval ({error}): pip install faster-coco-eval, or set type='CocoMetric'"
        ) from error

    class COCOeval(COCOeval_faster):
        def summarize(self) -> None:
            """AP is at 100 detections an image in COCO; faster-coco-eval has it at the most of `proposal_nums`."""
            super().summarize()
            at_100 = [i for i, most in enumerate(self.params.maxDets) if most == 100]
            precision = self.eval["precision"][:, :, :, 0, at_100]  # IoUs, recalls, classes, all areas
            known = precision[precision > -1]
            self.stats[0] = known.mean() if known.size else -1

    return partial(COCOeval, print_function=print)
