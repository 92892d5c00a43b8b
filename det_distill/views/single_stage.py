"""What a single-stage detector shows of one batch: its maps, and class logits and boxes of every cell.

Names beside those of every `View`: `head.logits`, `head.deltas` (tuples of (B, A * K, H, W) and of (B, A * D, H, W):
D is 4, or on GFL the bins of four distances). On the student only, for it is made while it trains: `head.targets`
(what the head's `get_targets` returns). Heads that judge otherwise, such as YOLOX's and CenterNet's, show none of
these, only what their modules do.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import AnchorFreeHead, AnchorHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import RPN, SingleStageDetector
from torch import Tensor, nn

from det_distill.views.anatomy import Anatomy
from det_distill.views.base import DENSE_TARGETS, TRUNK, View, part
from det_distill.views.sight import Sight
from det_distill.views.taps import Recorder


class SingleStageView(View):
    """Watches RetinaNet, FCOS, ATSS, GFL and their kin under the names above, and others as far as they go."""

    heads = ("head",)
    training = (DENSE_TARGETS,)
    sources = TRUNK | {"head.logits": ("bbox_head", part(0)), "head.deltas": ("bbox_head", part(1))}

    @staticmethod
    def shows(detector: nn.Module) -> bool:
        """Whether a detector is of this family: one head, which judges maps."""
        known = isinstance(detector, SingleStageDetector) and not isinstance(detector, RPN)
        return known and isinstance(getattr(detector, "bbox_head", None), BaseDenseHead)

    @property
    def grid_head(self) -> Any:
        return self.detector.bbox_head

    @property
    def classes(self) -> int:
        return int(self.grid_head.num_classes)

    def names(self) -> tuple[str, ...]:
        told = isinstance(self.grid_head, AnchorHead | AnchorFreeHead)  # logits and boxes of a cell, in that order
        return tuple(name for name in super().names() if told or not name.startswith("head."))

    def _attach(self, recorder: Recorder, name: str) -> None:
        if name == DENSE_TARGETS:
            recorder.wrap(name, self.grid_head, "get_targets")
        else:
            super()._attach(recorder, name)

    def _run_head(self, head: str, maps: Any, rois: Tensor | None, names: Sequence[str] | None) -> None:
        self.grid_head(maps)

    @torch.no_grad()
    def best_boxes(self, inputs: Tensor, metas: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[Sight, Any]:
        with Recorder() as recorder:
            recorder.watch("dense", self.grid_head)
            seen = self.run(inputs, names, whole=True)
        found = self.grid_head.predict_by_feat(*recorder.calls("dense")[0], batch_img_metas=list(metas))
        return seen, tuple(one.bboxes for one in found)

    def anatomy(self, names: Sequence[str], scale: float = 1.0) -> Anatomy:
        return Anatomy(self.side, self.dry_run(names), scale=scale, dense=self.grid_head)
