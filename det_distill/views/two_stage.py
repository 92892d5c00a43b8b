"""What a two-stage detector shows of one batch: maps, proposals' logits and deltas, RoI features.

Names beside those of every `View`: `rpn.logits`, `rpn.deltas` (tuples of (B, A, H, W) and
(B, 4A, H, W)); `roi.features` (N, C, h, w), `roi.embedding` (N, D) or, on R-FCN, its bins' votes (N, K + 1, k, k),
`roi.logits` (N, K + 1), `roi.deltas` (N, 4K or 4). On the student only, for they
are made while it trains: `rpn.targets` and `roi.targets` (what the heads' `get_targets` return), `rpn.proposals`
(per image (P, 4), best first), `roi.rois` (N, 5) the sampled boxes behind the index of their image, `roi.crops`
(N, C, h, w) what its RoI head cut there, which is `roi.features` without the teacher's.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from mmdet.models.dense_heads import EmbeddingRPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import RPN, TwoStageDetector
from torch import Tensor, nn

from det_distill.views.anatomy import Anatomy
from det_distill.views.base import PROPOSALS, ROI_CROPS, ROI_TARGETS, ROIS, RPN_TARGETS, TRUNK, View, part
from det_distill.views.sight import Sight
from det_distill.views.taps import Pick, Recorder, output


def argument(index: int) -> Pick:
    """Picks one positional argument of a call."""
    return lambda args, _: args[index]


def _boxes(results: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(result.bboxes.detach() for result in results)  # now: the RoI head empties the results


class TwoStageView(View):
    """Watches one two-stage detector, or a bare RPN, under the names above.

    Args:
        detector: A stock MMDetection `TwoStageDetector` with an RPN and one RoI head, or its `RPN`.
        side: "student" or "teacher", for messages.

    Raises:
        ValueError: The detector is of another family.
    """

    training: tuple[str, ...] = (ROIS, ROI_CROPS, PROPOSALS, RPN_TARGETS, ROI_TARGETS)
    sources = TRUNK | {
        "rpn.logits": ("rpn_head", part(0)),
        "rpn.deltas": ("rpn_head", part(1)),
        ROIS: ("roi_head.bbox_roi_extractor", argument(1)),
        ROI_CROPS: ("roi_head.bbox_roi_extractor", output),
        "roi.features": ("roi_head.bbox_roi_extractor", output),
        "roi.embedding": ("roi_head.bbox_head.fc_cls", argument(0)),
        "roi.logits": ("roi_head.bbox_head", part(0)),
        "roi.deltas": ("roi_head.bbox_head", part(1)),
    }

    def __init__(self, detector: nn.Module, side: str) -> None:
        super().__init__(detector, side)
        self.bare = isinstance(detector, RPN)
        self.has_rois = not self.bare
        self.heads = ("rpn", "roi") if self.has_rois else ("rpn",)
        if not hasattr(self.rpn, "prior_generator"):
            raise ValueError(f"the {side}'s rpn_head is a {type(self.rpn).__name__}; one with anchors is expected")
        if not self.bare:
            self._demand_head()

    def _demand_head(self) -> None:
        head = getattr(self.detector.roi_head, "bbox_head", None)
        if not hasattr(head, "num_classes"):
            raise ValueError(
                f"the {self.side}'s roi_head.bbox_head is a {type(head).__name__} in a "
                f"{type(self.detector.roi_head).__name__}; a box head, which knows a number of classes, is expected"
            )

    @staticmethod
    def shows(detector: nn.Module) -> bool:
        """Whether a detector is of this family: an RPN of anchors, by itself or before a RoI head."""
        if isinstance(detector, RPN):
            return True
        if not (isinstance(detector, TwoStageDetector) and detector.with_rpn and detector.with_roi_head):
            return False
        other = isinstance(detector.rpn_head, BaseDenseHead | EmbeddingRPNHead)  # guided anchors, learned proposals
        return hasattr(detector.rpn_head, "prior_generator") or not other

    @property
    def rpn(self) -> Any:
        """The RPN head."""
        return self.detector.bbox_head if self.bare else self.detector.rpn_head

    @property
    def head(self) -> Any:
        """The box head of the RoI stage; None on a bare RPN."""
        return None if self.bare else self.detector.roi_head.bbox_head

    @property
    def grid_head(self) -> Any:
        return self.rpn

    @property
    def classes(self) -> int | None:
        return self.head and self.head.num_classes

    def names(self) -> tuple[str, ...]:
        return tuple(name for name in super().names() if not (self.bare and name.startswith("roi.")))

    def _stage_of_module(self, first: str) -> str:
        if (self.bare and first == "bbox_head") or first == "rpn_head":
            return "rpn"
        return super()._stage_of_module(first)

    def _unknown(self, name: str, why: str = "") -> NoReturn:
        if self.bare and name.startswith("roi"):
            raise ValueError(f"the {self.side} is a bare RPN without a RoI head, so it has no tap '{name}'")
        super()._unknown(name, why)

    def _attach(self, recorder: Recorder, name: str) -> None:
        if name == RPN_TARGETS:
            recorder.wrap(name, self.rpn, "get_targets")
        elif name == ROI_TARGETS:
            recorder.wrap(name, self.head, "get_targets")
        elif name == PROPOSALS and self.bare:  # its training proposes nothing by itself
            recorder.wrap(name, self.rpn, "loss_by_feat", lambda args, _: self._propose(*args))
        elif name == PROPOSALS:
            recorder.wrap(name, self.rpn, "predict_by_feat", lambda _, results: _boxes(results))
        elif name.startswith("rpn."):
            recorder.watch(name, self.rpn, self.sources[name][1])
        else:
            super()._attach(recorder, name)

    @torch.no_grad()
    def _propose(self, logits: Any, deltas: Any, _truth: Any, metas: Any, *_: Any) -> tuple[Tensor, ...]:
        return _boxes(self.rpn.predict_by_feat(logits, deltas, batch_img_metas=metas))

    def _run_head(self, head: str, maps: Any, rois: Tensor | None, names: Sequence[str] | None) -> None:
        if head == "rpn":
            self.rpn(maps)
        elif rois is None:
            raise ValueError(f"the {self.side}'s RoI head needs boxes, and the student recorded none")
        else:
            self._judge(maps, rois, names)

    def _judge(self, maps: Any, rois: Tensor, names: Sequence[str] | None) -> None:
        self.detector.roi_head._bbox_forward(maps, rois)

    def best_boxes(self, inputs: Tensor, metas: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[Sight, Any]:
        seen = self.run(inputs, [*names, "rpn.logits", "rpn.deltas"])
        return seen, self._propose(list(seen["rpn.logits"]), list(seen["rpn.deltas"]), None, metas)

    def classify(self, features: Tensor) -> Tensor:
        """(N, K + 1) logits of RoI features (N, C, h, w), as the extractor returns them."""
        roi_head = self.detector.roi_head
        if roi_head.with_shared_head:
            features = roi_head.shared_head(features)
        logits: Tensor = self.head(features)[0]
        return logits

    def anatomy(self, names: Sequence[str], scale: float = 1.0) -> Anatomy:
        shown = Anatomy(self.side, self.dry_run(names), self.rpn, self.head, scale)
        if self.head is None:
            return shown
        if ROI_CROPS not in self.training:
            return replace(shown, classify=self.classify)
        trunk = "neck" if self.detector.with_neck else "backbone"
        return replace(shown, classify=self.classify, cuts=(trunk, self.detector.roi_head.bbox_roi_extractor))
