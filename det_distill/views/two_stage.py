"""What a two-stage detector shows of one batch: maps, proposals' logits and deltas, RoI features.

Names: `backbone`, `neck` (tuples of (B, C, H, W)); `rpn.logits`, `rpn.deltas` (tuples of (B, A, H, W) and
(B, 4A, H, W)); `roi.features` (N, C, h, w), `roi.embedding` (N, D) or, on R-FCN, its bins' votes (N, K + 1, k, k),
`roi.logits` (N, K + 1), `roi.deltas` (N, 4K or 4); and the dotted path of any module. On the student only, for they
are made while it trains: `rpn.targets` and `roi.targets` (what the heads' `get_targets` return), `rpn.proposals`
(per image (P, 4), best first), `roi.rois` (N, 5) the sampled boxes behind the index of their image.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmdet.models.detectors import RPN, TwoStageDetector
from torch import Tensor, nn

from det_distill.modes import evaluating
from det_distill.views.anatomy import Anatomy, MapSpec
from det_distill.views.sight import Sight
from det_distill.views.taps import Pick, Recorder, cloned, output, submodule


def _argument(index: int) -> Pick:
    return lambda args, _: args[index]


def _part(index: int) -> Pick:
    return lambda _, output: tuple(output[index]) if isinstance(output[index], list) else output[index]


def _boxes(results: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(result.bboxes.detach() for result in results)  # now: the RoI head empties the results


ROIS, PROPOSALS, RPN_TARGETS, ROI_TARGETS = "roi.rois", "rpn.proposals", "rpn.targets", "roi.targets"
TRAINING = (ROIS, PROPOSALS, RPN_TARGETS, ROI_TARGETS)  # names that only the training student shows
SOURCES: dict[str, tuple[str, Pick]] = {  # the module that shows each name, and what of its call
    "backbone": ("backbone", output),
    "neck": ("neck", output),
    "rpn.logits": ("rpn_head", _part(0)),
    "rpn.deltas": ("rpn_head", _part(1)),
    ROIS: ("roi_head.bbox_roi_extractor", _argument(1)),
    "roi.features": ("roi_head.bbox_roi_extractor", output),
    "roi.embedding": ("roi_head.bbox_head.fc_cls", _argument(0)),
    "roi.logits": ("roi_head.bbox_head", _part(0)),
    "roi.deltas": ("roi_head.bbox_head", _part(1)),
}
NAMES = (*(name for name in SOURCES if name != ROIS), *TRAINING)
STAGES = ("backbone", "neck", "rpn", "roi")
DRY_RUN = 256  # pixels a side; a multiple of every stride in use, so that strides come out whole


class TwoStageView:
    """Watches one two-stage detector, or a bare RPN, under the names above.

    Args:
        detector: A stock MMDetection `TwoStageDetector` with an RPN and one RoI head, or its `RPN`.
        side: "student" or "teacher", for messages.

    Raises:
        ValueError: The detector is of another family.
    """

    def __init__(self, detector: nn.Module, side: str) -> None:
        self.detector: Any = detector
        self.side, self.bare = side, isinstance(detector, RPN)
        two_stage = isinstance(detector, TwoStageDetector) and detector.with_rpn and detector.with_roi_head
        if not self.bare and not two_stage:
            raise ValueError(f"the {side} is a {type(detector).__name__}; a two-stage detector with an RPN is expected")
        if isinstance(self.head, nn.ModuleList):
            raise ValueError(
                f"the {side}'s {type(self.detector.roi_head).__name__} is a cascade; one bbox_head is expected"
            )

    @property
    def rpn(self) -> Any:
        """The RPN head."""
        return self.detector.bbox_head if self.bare else self.detector.rpn_head

    @property
    def head(self) -> Any:
        """The box head of the RoI stage; None on a bare RPN."""
        return None if self.bare else self.detector.roi_head.bbox_head

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart; None for a bare RPN, which tells none."""
        return self.head and self.head.num_classes

    def names(self) -> tuple[str, ...]:
        """The stable names this detector has."""
        absent = {"neck"} if not self.detector.with_neck else set()
        return tuple(name for name in NAMES if name not in absent and not (self.bare and name.startswith("roi.")))

    def stage(self, name: str) -> str:
        """The part of the detector that must run for a name.

        Raises:
            ValueError: The detector shows nothing under that name; suggests the nearest.
        """
        if name in self.names():
            return name.split(".")[0]
        if "." not in name or name in NAMES:
            self._unknown(name)
        try:
            submodule(self.detector, name)
        except ValueError as error:
            self._unknown(name, f"; {error}")
        first = name.split(".")[0].removesuffix("_head")
        first = "rpn" if self.bare and first == "bbox" else first
        return first if first in STAGES else "roi"

    def stages(self, names: Iterable[str]) -> list[str]:
        """The parts that run for some names: heads that one of them needs, and the trunk as far as it carries them."""
        needed = {self.stage(name) for name in names}
        heads = [stage for stage in STAGES[2:] if stage in needed]
        neck = ["neck"] if self.detector.with_neck and (heads or "neck" in needed) else []
        return (["backbone"] if needed else []) + neck + heads

    def _unknown(self, name: str, why: str = "") -> None:
        own = self.names()
        if self.bare and name.startswith("roi"):
            raise ValueError(f"the {self.side} is a bare RPN without a RoI head, so it has no tap '{name}'")
        close = difflib.get_close_matches(name, own, n=1, cutoff=0.3)
        hint = f"; did you mean '{close[0]}'?" if close else "."
        raise ValueError(
            f"the {self.side} has no tap '{name}'{hint} It shows {', '.join(own)} and dotted module paths{why}"
        )

    def record(self, names: Iterable[str]) -> Sight:
        """A context that records the names while the detector runs, as in its own `loss`."""
        return Sight(self.side, names, self._attach, NAMES)

    def _attach(self, recorder: Recorder, name: str) -> None:
        """Watch what a name stands for."""
        if name == RPN_TARGETS:
            recorder.wrap(name, self.rpn, "get_targets")
        elif name == ROI_TARGETS:
            recorder.wrap(name, self.head, "get_targets")
        elif name == PROPOSALS and self.bare:  # its training proposes nothing by itself
            recorder.wrap(name, self.rpn, "loss_by_feat", lambda args, _: self._propose(*args))
        elif name == PROPOSALS:
            recorder.wrap(name, self.rpn, "predict_by_feat", lambda _, results: _boxes(results))
        elif name.startswith("rpn."):
            recorder.watch(name, self.rpn, SOURCES[name][1])
        elif name in SOURCES:
            path, pick = SOURCES[name]
            recorder.watch(name, submodule(self.detector, path), pick)
        else:
            recorder.watch(name, submodule(self.detector, name), lambda _, out: cloned(out))

    @torch.no_grad()
    def _propose(self, logits: Any, deltas: Any, _truth: Any, metas: Any, *_: Any) -> tuple[Tensor, ...]:
        return _boxes(self.rpn.predict_by_feat(logits, deltas, batch_img_metas=metas))

    def run(self, inputs: Tensor, names: Sequence[str], rois: Tensor | None = None) -> Sight:
        """Forward just the stages the names need, and return what they show.

        Args:
            inputs: (B, 3, H, W), preprocessed for this detector.
            names: What to show; names of training exist in the student's own training step only.
            rois: (N, 5) image index and box, for names of the RoI stage.
        """
        for name in TRAINING:
            if name in names:
                raise ValueError(f"'{name}' exists on the training student only, but the {self.side} is asked for it")
        det, stages = self.detector, self.stages(names)
        with self.record(names) as sight:
            if "backbone" in stages:
                maps = det.backbone(inputs)
            if "neck" in stages:
                maps = det.neck(maps)
            if "rpn" in stages:
                self.rpn(maps)
            if "roi" in stages:
                if rois is None:
                    raise ValueError(f"the {self.side}'s RoI head needs boxes, and the student recorded none")
                det.roi_head._bbox_forward(maps, rois)
        return sight

    def anatomy(self, names: Sequence[str], scale: float = 1.0) -> Anatomy:
        """What a term may know before training; `scale` is that of this detector's input."""
        return Anatomy(self.side, self.dry_run(names), self.rpn, self.head, scale)

    def dry_run(self, names: Sequence[str]) -> dict[str, tuple[MapSpec, ...] | tuple[int, ...]]:
        """What each name looks like: a `MapSpec` per level for maps, the shape behind N for RoI tensors.

        Runs the detector once on zeros, in eval mode and without gradient; training flags are restored.
        """
        for name in names:
            self.stage(name)
        names = [name for name in names if name not in TRAINING]
        device = next(self.detector.parameters()).device
        rois = torch.tensor([[0.0, 32, 32, 160, 160]], device=device)
        with evaluating(self.detector), torch.no_grad():
            sight = self.run(torch.zeros(1, 3, DRY_RUN, DRY_RUN, device=device), names, rois)
        return {name: self._spec(name, sight[name]) for name in names}

    def _spec(self, name: str, value: Any) -> tuple[MapSpec, ...] | tuple[int, ...]:
        if isinstance(value, Tensor) and name.startswith("roi"):
            return tuple(value.shape[1:])
        maps = value if isinstance(value, tuple | list) else (value,)
        for one in maps:
            if not isinstance(one, Tensor) or one.dim() != 4:
                found = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
                raise ValueError(f"the {self.side}'s '{name}' shows {found}, not feature maps (B, C, H, W)")
        return tuple(MapSpec(one.shape[1], round(DRY_RUN / one.shape[2])) for one in maps)
