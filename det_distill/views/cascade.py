"""What a cascade shows of one batch: maps, proposals, and the boxes of its first stage.

Each stage of its RoI head judges the boxes that the one before made, so of the names of a `TwoStageView` there are only
the trunk's, the RPN's and, on the student while it trains, `roi.rois`: what the first stage samples.
"""

from typing import Any, NoReturn

from mmdet.models.roi_heads import CascadeRoIHead
from torch import Tensor, nn

from det_distill.views.base import PROPOSALS, ROIS, RPN_TARGETS
from det_distill.views.two_stage import TwoStageView, argument


class CascadeView(TwoStageView):
    """Watches Cascade R-CNN, HTC, DetectoRS and their kin under the names above."""

    training = (ROIS, PROPOSALS, RPN_TARGETS)
    sources = {name: one for name, one in TwoStageView.sources.items() if not name.startswith("roi.")} | {
        ROIS: ("roi_head.bbox_roi_extractor.0", argument(1))
    }

    @staticmethod
    def shows(detector: nn.Module) -> bool:
        """Whether a detector is of this family: an RPN of anchors before a cascade."""
        return TwoStageView.shows(detector) and isinstance(getattr(detector, "roi_head", None), CascadeRoIHead)

    @property
    def head(self) -> None:
        """None: it has several."""

    @property
    def classes(self) -> int:
        return int(self.detector.roi_head.bbox_head[-1].num_classes)

    def _demand_head(self) -> None:
        pass

    def _unknown(self, name: str, why: str = "") -> NoReturn:
        if name in (*TwoStageView.sources, *TwoStageView.training):
            why += f"; its {type(self.detector.roi_head).__name__} is a cascade, whose stages judge other boxes each"
        super()._unknown(name, why)

    def _judge(self, maps: Any, rois: Tensor) -> None:
        for stage in range(self.detector.roi_head.num_stages):
            self.detector.roi_head._bbox_forward(stage, maps, rois)
