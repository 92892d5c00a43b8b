"""What any detector shows of one batch: the maps of its backbone and neck."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from det_distill.views.anatomy import Anatomy
from det_distill.views.base import View
from det_distill.views.sight import Sight


class TrunkView(View):
    """Watches a detector of another family, such as DETR and its kin, as far as its neck: under every `View`'s names.

    A term of maps asks no more of a detector. What comes behind is the detector's own affair: it trains and is judged
    as MMDetection does it, and teaches, or learns, by its maps.
    """

    @staticmethod
    def shows(detector: nn.Module) -> bool:
        """Whether it has a backbone, as every detector of MMDetection has."""
        return isinstance(getattr(detector, "backbone", None), nn.Module)

    @property
    def classes(self) -> int | None:
        head: Any = getattr(self.detector, "bbox_head", None) or getattr(self.detector, "roi_head", None)
        head = getattr(head, "bbox_head", head)  # of a RoI head
        found: int | None = getattr(head[-1] if isinstance(head, nn.ModuleList) else head, "num_classes", None)
        return found

    @torch.no_grad()
    def best_boxes(self, inputs: Tensor, metas: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[Sight, Any]:
        samples = [DetDataSample(metainfo=dict(meta)) for meta in metas]
        with self.record(names) as seen:
            found = [one.pred_instances for one in self.detector.predict(inputs, samples, rescale=False)]
        return seen, tuple(one.bboxes[one.scores.argsort(descending=True)] for one in found)

    def anatomy(self, names: Sequence[str], scale: float = 1.0) -> Anatomy:
        return Anatomy(self.side, self.dry_run(names), scale=scale)
