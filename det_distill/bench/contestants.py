"""Who is timed beside whom: this toolkit, MMRazor's distillers, and MMDetection's own localisation distillation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import nn

from det_distill.bench.razor import distiller
from det_distill.bench.untrained import without_files
from det_distill.building import build_detector
from det_distill.configs import load_config
from det_distill.dry_run import go_back
from det_distill.weights import load_strictly

STUDENT, FEATURES, TEACHER = "student alone", "teacher, backbone and neck", "teacher, head and all"
OURS, RAZOR = "det_distill, neck", "MMRazor FpnTeacherDistill, neck"
OURS_HEAD, RAZOR_HEAD = "det_distill, RPN scores", "MMRazor SingleTeacherDistill, RPN scores"
OURS_BOXES, LD = "det_distill, box distributions", "MMDetection LD, box distributions"
LD_STUDENT = "KnowledgeDistillationSingleStageDetector"  # MMDetection's


class Pair:
    """Two detectors by their configs, the teacher's weights in a file; builds each contestant anew.

    Args:
        student: Config of the student; of MMDetection's LD, which then is the peer, its student is meant.
        teacher: Config of the teacher.
        weights: File of its weights.
    """

    def __init__(self, student: str, teacher: str, weights: str) -> None:
        register_all_modules()
        self.given = without_files(load_config(student, "student").model)
        self.is_ld = self.given["type"] == LD_STUDENT
        self.student_cfg = _plain(self.given) if self.is_ld else self.given
        self.teacher_cfg, self.weights = teacher, weights

    @property
    def contest(self) -> "Contest":
        """Who can compete on these nets."""
        return SINGLE_STAGE if self.is_ld else TWO_STAGE

    def student(self) -> Any:
        torch.manual_seed(0)  # one and the same start
        return build_detector(self.student_cfg).train()

    def teacher(self) -> Any:
        model = build_detector(self._teacher_model())
        load_strictly(model, self.weights)
        return model.eval()

    def mimic(self, tap: str) -> Any:
        mask = dict(type="FullMask")
        return self.ours(dict(type="FeatureImitation", tap=tap, mask=mask, distance="l2", adapter=None, weight=1))

    def localisation(self) -> Any:
        loss = self.given["bbox_head"]["loss_ld"]
        return self.ours(dict(type="LocalisationDistillation", weight=loss["loss_weight"], temperature=loss["T"]))

    def ours(self, term: dict[str, Any]) -> Any:
        teacher = dict(config=self.teacher_cfg, checkpoint=self.weights)
        torch.manual_seed(0)
        cfg = dict(type="Distiller", student=self.student_cfg, teacher=teacher, terms=dict(mimic=term))
        return MODELS.build(cfg).train()

    def razor(self, kind: str, source: str, by_call: bool) -> Any:
        levels = self.student_cfg["neck"]["num_outs"]
        return distiller(kind, self.student(), self.teacher(), source, levels, by_call)

    def ld(self) -> Any:
        torch.manual_seed(0)
        teacher = dict(teacher_config=dict(model=self._teacher_model()), teacher_ckpt=self.weights)
        model = build_detector(dict(self.given) | teacher)
        model.train()  # gives nothing back
        return model

    def _teacher_model(self) -> Any:
        return without_files(load_config(self.teacher_cfg, "teacher").model)


def _plain(model: Mapping[str, Any]) -> dict[str, Any]:
    """The student of MMDetection's LD alone."""
    plain = {
        key: value for key, value in model.items() if key not in ("teacher_config", "teacher_ckpt", "eval_teacher")
    }
    head = {key: value for key, value in model["bbox_head"].items() if key not in ("loss_ld", "loss_kd", "loss_im")}
    return plain | dict(type="GFL", bbox_head=type(model["bbox_head"])(head, type="GFLHead"))


@dataclass(frozen=True)
class Contest:
    """Contestants by name, what every one of them needs of the teacher, and of each peer who of ours does the same."""

    contestants: Mapping[str, Callable[[Pair], nn.Module]]
    needed: str
    rivals: tuple[tuple[str, str], ...]


TWO_STAGE = Contest(
    {
        STUDENT: Pair.student,
        FEATURES: Pair.teacher,
        OURS: lambda pair: pair.mimic("neck"),
        RAZOR: lambda pair: pair.razor("FpnTeacherDistill", "neck", by_call=False),
        OURS_HEAD: lambda pair: pair.mimic("rpn.logits"),
        RAZOR_HEAD: lambda pair: pair.razor("SingleTeacherDistill", "rpn_head.rpn_cls", by_call=True),
    },
    FEATURES,
    ((OURS, RAZOR), (OURS_HEAD, RAZOR_HEAD)),
)
SINGLE_STAGE = Contest(
    {STUDENT: Pair.student, TEACHER: Pair.teacher, OURS_BOXES: Pair.localisation, LD: Pair.ld},
    TEACHER,
    ((OURS_BOXES, LD),),
)


def step(name: str, model: Any, inputs: Any, samples: list[Any]) -> None:
    """A training step without an optimiser; of a teacher its forward pass."""
    if name in (FEATURES, TEACHER):
        with torch.no_grad():
            model.extract_feat(inputs) if name == FEATURES else model(inputs, samples, mode="tensor")
        return
    go_back(model, model.loss(inputs, samples))
