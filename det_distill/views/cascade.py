"""What a cascade shows of one batch: maps, proposals, and what its first stage makes of the boxes it is given.

The names are those of a `TwoStageView`, and of its RoI head's stages they tell of the first: it judges what an RPN
proposes, as the only stage of another detector does. The others judge boxes of their own; their modules go by their
dotted paths.
"""

import re
from collections.abc import Sequence
from typing import Any

from mmdet.models.roi_heads import CascadeRoIHead
from torch import Tensor, nn

from det_distill.views.base import ROI_CROPS
from det_distill.views.two_stage import TwoStageView

STAGES = ("roi_head.bbox_roi_extractor", "roi_head.bbox_head")  # lists of a module a stage


def _first(path: str) -> str:
    """The path of a module of the RoI head, in a cascade that of its first stage."""
    return next((path.replace(name, f"{name}.0") for name in STAGES if path.startswith(name)), path)


class CascadeView(TwoStageView):
    """Watches Cascade R-CNN, HTC, DetectoRS and their kin under the names above.

    Of the training student's names `roi.crops` is absent: HTC adds to what it has cut, in place.
    """

    training = tuple(name for name in TwoStageView.training if name != ROI_CROPS)
    sources = {name: (_first(path), pick) for name, (path, pick) in TwoStageView.sources.items() if name != ROI_CROPS}

    @staticmethod
    def shows(detector: nn.Module) -> bool:
        """Whether a detector is of this family: an RPN of anchors before a cascade."""
        return TwoStageView.shows(detector) and isinstance(getattr(detector, "roi_head", None), CascadeRoIHead)

    @property
    def head(self) -> Any:
        """The box head of the first stage."""
        return self.detector.roi_head.bbox_head[0]

    def _demand_head(self) -> None:
        pass

    def _judge(self, maps: Any, rois: Tensor, names: Sequence[str] | None) -> None:
        head, context = self.detector.roi_head, {}
        if getattr(head, "with_semantic", False):  # HTC, SCNet
            context["semantic_feat"] = head.semantic_head(maps)[1]
        if getattr(head, "with_glbctx", False):  # SCNet
            context["glbctx_feat"] = head.glbctx_head(maps)[1]
        for stage in range(head.num_stages) if names is None else sorted({_stage(name) for name in names}):
            head._bbox_forward(stage, maps, rois, **context)


def _stage(name: str) -> int:
    """The stage that shows a name: of a module its own, else the first."""
    found = re.match(rf"(?:{'|'.join(map(re.escape, STAGES))})\.(\d+)", name)
    return int(found[1]) if found else 0
