"""The student learns, a frozen teacher watches; to everything else this is the student.

Why a detector and not a runner or a hook: MMDetection's own tools train it, test it and log it as they do
any model, and its checkpoint is the student's.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmdet.models.detectors.base import BaseDetector
from mmdet.registry import MODELS
from mmengine.dist import get_world_size
from torch import Tensor, nn

from det_distill.building import build_detector
from det_distill.inheritance.selection import selection_of
from det_distill.needed_hooks import demand_hooks
from det_distill.randomness import untouched
from det_distill.ranks import idle
from det_distill.scene import Scene
from det_distill.stages import Stages
from det_distill.state import heads_of_rpn, hide_prefix, restore_prefix
from det_distill.student.model import demand_known_widths, student_model
from det_distill.student.resolution import Shrink
from det_distill.student.task_weights import TaskWeights
from det_distill.teachers.faculty import Faculty
from det_distill.teachers.teacher import Teacher
from det_distill.terms.base import Batch
from det_distill.views.base import ROIS, TRAINING
from det_distill.views.families import view_of
from det_distill.views.sight import Sight
from det_distill.wiring import wired_terms


@MODELS.register_module()
class Distiller(BaseDetector):
    """A stock student that also learns from a teacher, by weighted terms.

    `loss` is the student's own, untouched, plus `loss_<term>` for each term; `predict` and `tensor` modes
    are the student's. With every weight at 0 training is bit-identical to stock training of the student.

    Args:
        student: Model config of a detector, or `dict(config=...)`, or `dict(model=...)`. `width` beside it gives each
            layer so many times the channels. `scale` feeds the student a copy of each training batch of so many
            pixels a pixel; its own data pipelines serve for tests.
        teacher: `dict(config=..., checkpoint=...)`, see `Teacher`; or such dicts by name, of several teachers.
        terms: Configs of terms by name; a term set to None is left out.
        task_weights: Multipliers of the student's own losses by their log name, numbers or configs of schedules; 1
            where not named.
        stages: The parts of a run in which some terms teach and some modules learn, each a dict of `Stage`'s
            attributes; `StagesHook` leads through them. Outside a Runner all teach and learn until `stages.enter`.
        data_preprocessor: Used where the student's config has none.
        init_cfg: `dict(type="WeightSelection", ...)` lets the student begin as a part of its teacher. None, or what
            the student's own config says, for an initialisation of its own.

    Raises:
        ValueError: A part cannot be built or wired; names the config key, what was found and the nearest valid.
    """

    student: Any  # stock detectors are untyped
    data_preprocessor: Any
    terms: Any

    def __init__(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        terms: Mapping[str, Any],
        task_weights: Mapping[str, float | Mapping[str, Any]] | None = None,
        stages: Sequence[Mapping[str, Any]] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        model = student_model(dict(type="Distiller", student=student))
        if data_preprocessor is not None:
            model.setdefault("data_preprocessor", data_preprocessor)
        own = build_detector(model)
        super().__init__(data_preprocessor=own.data_preprocessor)
        self.student = own
        self.shrink = Shrink(student.get("scale", 1), own.data_preprocessor)
        self.task_weights = TaskWeights(task_weights)
        self.saves_adapters = False  # AdapterStateHook sets it
        self.reconstructs = False  # ReconstructionHook sets it
        self.audit: tuple[str, Callable[..., None]] | None = None  # GradientReportHook sets it: a tap and who looks
        self.guard: Callable[[Tensor, dict[str, Tensor]], Any] | None = None  # FiniteLossesHook sets it
        with untouched():  # whatever the teacher and the adapters draw, the student's stream goes on as without them
            self.view = view_of(self.student, "student")
            demand_known_widths(student, self.view)
            self.teachers = Faculty(teacher, self.view, self.data_preprocessor)
            self.terms = nn.ModuleDict(wired_terms(terms, self.view, self.teachers, self.shrink.scale))
        self.inherit = None if init_cfg is None else selection_of(init_cfg, self.view, self.teachers)
        self.stages = Stages(stages, self.student, self.terms)
        self._register_state_dict_hook(hide_prefix)

    @property
    def teacher(self) -> Teacher:
        """The only teacher, or the first of several."""
        return self.teachers.first

    # ------------------------------------------------------------ training

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Any]:
        """The student's losses, and `loss_<term>` of each term; a term at strength 0 computes nothing."""
        demand_hooks(self)
        stage = self.stages.now
        strengths = {name: term.strength() if stage.teaches(name) else 0.0 for name, term in self.terms.items()}
        active = {name: self.terms[name] for name, strength in strengths.items() if strength}
        if not active and not stage.task_loss:  # of strength 0 all, but a step needs a loss to go back from
            active = {name: self.terms[name] for name in strengths if stage.teaches(name)}
        first, after = self.teachers.asked(active.values())
        taps = sorted({tap for term in active.values() for tap in term.taps})
        whole, inputs, samples = self.shrink(batch_inputs, batch_data_samples)
        # Before the student, whose maps wait for the backward pass: the peak of memory is then no sum of both.
        shown = self.teachers.watch(whole, batch_data_samples, first)
        losses, seen = self._student(inputs, samples, [*taps, *([ROIS] if after else [])])
        if after:
            shown |= self.teachers.watch(whole, batch_data_samples, after, self.shrink.to_batch(seen[ROIS]))
        batch = Batch(Scene.from_samples(samples), samples, self.view.priors)
        values = {name: term(seen, term.chosen(shown), batch) for name, term in active.items()}
        for name, strength in strengths.items():
            value = values.get(name, idle(self.terms[name], batch_inputs))
            parts = {f".{part}": one for part, one in value.items()} if isinstance(value, dict) else {"": value}
            for part, one in parts.items():
                self._add(losses, f"loss_{name}{part}", one * strength if name in values else one)
        if self.audit:
            self.audit[1](losses, strengths, seen)
        return losses

    def parse_losses(self, losses: dict[str, Any]) -> Any:
        """The sum to go back from and what is logged, once the guard has seen both."""
        total, told = super().parse_losses(losses)
        return self.guard(total, told) if self.guard else (total, told)

    def _student(self, inputs: Tensor, samples: Sequence[Any], taps: Sequence[str]) -> tuple[dict[str, Any], Sight]:
        """The student's losses and what it shows; where they do not count, it runs as far as it must to show it."""
        look, task, parts = (self.audit or ())[:1], self.stages.now.task_loss, self.view.stages(taps)
        if not task and "roi" not in parts and not {*taps} & {*TRAINING}:
            return self._no_task(inputs), self.view.run(inputs, [*taps, *(tap for tap in look if tap in parts)])
        with self.view.record((*taps, *look)) as seen:
            losses = self.student.loss(inputs, samples)
        return (self.task_weights(losses) if task else self._no_task(inputs)), seen

    def _no_task(self, inputs: Tensor) -> dict[str, Any]:
        return dict(loss_task=idle(self.student, inputs)) if get_world_size() > 1 else {}

    def _add(self, losses: dict[str, Any], key: str, value: Tensor) -> None:
        if key in losses:
            raise ValueError(f"the student already logs '{key}'; give that term another name")
        losses[key] = value

    def __getattr__(self, name: str) -> Any:
        """What a stock hook reaches for, such as `bbox_head` or `set_epoch`, is the student's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self.__dict__.get("_modules", {}).get("student")
            if student is None or name.startswith("_"):
                raise
            return getattr(student, name)

    def train(self, mode: bool = True) -> "Distiller":
        super().train(mode)
        self.stages.rest()
        return self

    # ------------------------------------------------------------ the student, to everything else

    def predict(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any], rescale: bool = True) -> Any:
        return self.student.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any] | None = None) -> Any:
        return self.student._forward(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        return self.student.extract_feat(batch_inputs)

    def init_weights(self) -> None:
        """The student's initialisation, from the same random stream as without a Distiller."""
        self.student.init_weights()
        if self.inherit:
            self.inherit(self.student, self.teachers)
        self._is_init = True

    def _apply(self, fn: Any, recurse: bool = True) -> "Distiller":
        self.teachers.apply(fn)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: "OrderedDict[str, Any]", prefix: str, *args: Any) -> None:
        if self.view.has_rois:
            heads_of_rpn(state_dict, prefix)
        restore_prefix(self.terms, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
