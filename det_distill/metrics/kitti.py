"""KITTI's 2D benchmark as a metric of MMDetection; the protocol is `kitti_ap`'s."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from det_distill.compat.checkpoints import nearest_file
from det_distill.datasets.kitti_labels import TYPES, Objects, detections, read_labels, write_labels
from det_distill.metrics.kitti_ap import DIFFICULTIES, ap11, ap40, average_precision, precisions
from det_distill.metrics.kitti_matching import MIN_IOU
from det_distill.metrics.means import known_mean
from det_distill.refusals import choice

SUMMARIES = {"AP40": ap40, "AP11": ap11}


@METRICS.register_module()
class KittiMetric(BaseMetric):
    """Reads the ground truth from KITTI's own files, by `img_id`, so that any data set will do whose ids are KITTI's.

    Results, as fractions: `kitti/Car_easy_AP40` and so on for each class, difficulty and summary, their means over
    classes `kitti/easy_AP40`; `kitti/Car_AP`, the plain area under the curve with no difficulties, and `kitti/mAP`,
    its mean. A class that has no object to find is NaN, and no part of a mean. KITTI's numbers are low on few frames:
    see `kitti_ap`.

    Args:
        ann_dir: Folder of label files; needed unless `format_only`.
        outfile_prefix: Folder to write the detections of each frame to, as KITTI's result files.
        format_only: Write those, and evaluate nothing.
        **kwargs: BaseMetric's.

    Raises:
        FileNotFoundError: No such folder, or no label file of a sample; names the nearest.
        ValueError: The data set has a class that KITTI does not evaluate, `format_only` has nowhere to write, or a
            label file is broken.
    """

    default_prefix = "kitti"

    def __init__(
        self,
        ann_dir: str | None = None,
        outfile_prefix: str | None = None,
        format_only: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if format_only and outfile_prefix is None:
            raise ValueError("outfile_prefix=None, expected a folder to write to, as format_only=True asks")
        if not format_only:
            if ann_dir is None:
                raise ValueError("ann_dir=None, expected KITTI's folder of label files, 'training/label_2'")
            if not Path(ann_dir).is_dir():
                raise FileNotFoundError(f"ann_dir: no folder {ann_dir!r}; {nearest_file(Path(ann_dir))}")
        self.ann_dir = ann_dir
        self.outfile_prefix = outfile_prefix
        self.format_only = format_only

    @property
    def classes(self) -> list[str]:
        """The data set's, once each is known to be KITTI's."""
        known = TYPES if self.format_only else MIN_IOU
        return [choice("metainfo.classes of KittiMetric", name, known) for name in self.dataset_meta["classes"]]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep each frame's id, labels (None where only results are written) and detections."""
        classes = self.classes
        for sample in data_samples:
            frame, found = str(sample["img_id"]), sample["pred_instances"]
            labels, boxes, scores = (found[key].cpu().numpy() for key in ("labels", "bboxes", "scores"))
            results = detections([classes[label] for label in labels], boxes.astype(np.float64), scores)
            self.results.append((frame, None if self.format_only else self._truth(frame), results))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Fractions, by name; none where only results are written."""
        if self.outfile_prefix is not None:
            folder = Path(self.outfile_prefix)
            folder.mkdir(parents=True, exist_ok=True)
            for frame, _, found in results:
                write_labels(folder / f"{frame}.txt", found)
        if self.format_only:
            return {}
        values = self._values([truth for _, truth, _ in results], [found for *_, found in results])
        columns = [f"{level}_{summary}" for summary in SUMMARIES for level in DIFFICULTIES]
        rows = [[name, *(f"{values[f'{name}_{key}']:.3f}" for key in [*columns, "AP"])] for name in self.classes]
        means = ["mean", *(f"{values[key]:.3f}" for key in [*columns, "mAP"])]
        table = AsciiTable([["class", *(key.replace("_", " ") for key in columns), "AP"], *rows, means])
        MMLogger.get_current_instance().info("\n" + table.table)
        return values

    def _values(self, truths: list[Objects], found: list[Objects]) -> dict[str, float]:
        values = {}
        for name in self.classes:
            for level, difficulty in DIFFICULTIES.items():
                curve = precisions(truths, found, name, difficulty)
                values.update({f"{name}_{level}_{key}": summary(curve) for key, summary in SUMMARIES.items()})
            values[f"{name}_AP"] = average_precision(truths, found, name)
        for key in [f"{level}_{summary}" for level in DIFFICULTIES for summary in SUMMARIES]:
            values[key] = known_mean(values[f"{name}_{key}"] for name in self.classes)
        values["mAP"] = known_mean(values[f"{name}_AP"] for name in self.classes)
        return values

    def _truth(self, frame: str) -> Objects:
        path = Path(self.ann_dir or "", f"{frame}.txt")
        if not path.is_file():
            raise FileNotFoundError(f"ann_dir has no labels of img_id={frame!r}: no {path}; {nearest_file(path)}")
        return read_labels(path)
