"""The wiring of a distillation config before any training: what meets what, and what a step will cost."""

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from mmdet.registry import MODELS
from terminaltables import AsciiTable
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from det_distill.configs import opened_distiller
from det_distill.dry_run import begun, go_back, made_up
from det_distill.stills import input_size
from det_distill.teachers.faculty import taps_of
from det_distill.views.anatomy import MapSpec
from det_distill.views.base import TRAINING


def overview(config: str, shape: Sequence[int] | None = None, cfg_options: dict[str, Any] | None = None) -> str:
    """Build the Distiller of a config and describe it: taps, terms, costs.

    Args:
        config: Path of a distillation config.
        shape: Height and width of the image whose costs are counted; by default as the training pipeline resizes.
        cfg_options: Dotted keys to change in the config.

    Raises:
        FileNotFoundError: A config or checkpoint is not there.
        ValueError: The config is no Distiller's or cannot be wired, as in training.
    """
    model, size = distiller_of(config, shape, cfg_options)
    return "\n\n".join((_headline(model), _taps(model), _terms(model), *_stages(model), _costs(model, size)))


def distiller_of(
    config: str, shape: Sequence[int] | None, options: dict[str, Any] | None
) -> tuple[Any, tuple[int, int]]:
    """The Distiller of a config, and height and width of its training images where `shape` does not say.

    Raises:
        FileNotFoundError: A config or checkpoint is not there.
        ValueError: The config is no Distiller's or cannot be wired.
    """
    cfg = opened_distiller(config, options)
    height, width = shape or input_size(cfg)
    return MODELS.build(cfg.model), (height, width)


def _headline(model: Any) -> str:
    lines = [f"student: {type(model.student).__name__}, fed at scale {model.shrink.scale:g}"]
    if model.inherit:
        lines.append(f"         {model.inherit.told(model.student, model.teachers)}")
    for name, teacher in model.teachers.items():
        title = "teacher" if len(model.teachers) == 1 else f"teacher {name}"
        lines += [
            f"{title}: {type(teacher.detector).__name__} of {teacher.config.filename}",
            f"         {teacher.checkpoint}, every weight loaded",
            f"         runs {', '.join(_parts(model, name)) or 'never'}",
        ]
    return "\n".join(lines)


def _parts(model: Any, name: str) -> list[str]:
    """The stages of a teacher that terms of a weight above 0 make run."""
    return model.teachers[name].view.stages(taps_of([term for term in model.terms.values() if term.weight], name))


def _taps(model: Any) -> str:
    """Channels and stride of each level, in the net's own pixels."""
    terms = list(model.terms.values())
    taps = sorted({tap for term in terms for tap in term.taps})
    sides = {"student": model.view.anatomy(taps).shows}
    sides |= {name: one.anatomy(taps_of(terms, name)).shows for name, one in model.teachers.items()}
    rows = [[tap, *(_shown(shows.get(tap), tap) for shows in sides.values())] for tap in taps]
    return table("taps (channels @ stride)", ["tap", *sides], rows)


def _shown(value: Any, tap: str) -> str:
    if value is None:
        return "student's, in training" if tap in TRAINING else "not asked for"
    if all(isinstance(spec, MapSpec) for spec in value):
        return "  ".join(f"{spec.channels} @ {spec.stride}" for spec in value)
    return f"{' x '.join(map(str, value))} a box"


def _terms(model: Any) -> str:
    rows = []
    for name, term in model.terms.items():
        pairs = getattr(term, "pairs", None) or []
        met = "  ".join("-".join(f"{stride}" for stride in pair.strides) for pair in pairs) or "item by item"
        adapters = f"{_parameters(term):,}" if _parameters(term) else "none"
        rows.append([f"loss_{name}", type(term).__name__, ", ".join(term.taps), met, adapters, _weight(term)])
    return table("terms", ["log name", "type", "taps", "strides paired", "adapter weights", "weight"], rows)


def _stages(model: Any) -> list[str]:
    """What teaches and learns in each stage, where there are stages."""
    rows = []
    for index, stage in enumerate(model.stages.all):
        settings = "of its own" if stage.own else "the run's"
        rows.append([str(index), "the end" if stage.until is None else f"{stage.until}", str(stage), settings])
    return [table("stages", ["stage", "until", "what teaches and learns", "optimiser"], rows)] if rows else []


def _weight(term: Any) -> str:
    return f"{term.weight:g}" + (f" by {type(term.schedule).__name__}" if term.schedule else "")


def _parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def _costs(model: Any, shape: tuple[int, int]) -> str:
    """Multiply-adds of a training step of one image, counted, not estimated."""
    student, teacher, step = _flops(model, shape)
    parts = (
        ("student, forward and backward", model.student, student),
        ("teacher, forward", nn.ModuleList(one.detector for one in model.teachers.values()), teacher),
        ("terms and their adapters", model.terms, step - student - teacher),
    )
    rows = [
        [name, f"{_parameters(part) / 1e6:.2f} M", f"{flops / 2e9:.2f} G", f"{flops / step:.1%}"]
        for name, part, flops in parts
    ]
    title = f"one step of one {shape[1]}x{shape[0]} image"
    return table(title, ["part", "parameters", "multiply-adds", "share of the step"], rows)


def _flops(model: Any, shape: tuple[int, int]) -> tuple[int, int, int]:
    """FLOPs of the student's own step, of the teachers in a distilled step, and of that whole step."""
    begun(model)
    inputs, samples = made_up(shape)
    watch, counted = model.teachers.watch, list[int]()

    def watched(*args: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            shown = watch(*args)
        counted.append(counter.get_total_flops())
        return shown

    student = _step(model, lambda: model.student.loss(*model.shrink(inputs, samples)[1:]))
    with patch.object(model.teachers, "watch", watched):
        step = _step(model, lambda: model.loss(inputs, samples))
    return student, sum(counted), step


def _step(model: Any, loss: Callable[[], dict[str, Any]]) -> int:
    torch.manual_seed(0)  # the same boxes are sampled with terms and without
    with FlopCounterMode(display=False) as counter:
        go_back(model, loss())
    return counter.get_total_flops()


def table(title: str, head: list[str], rows: list[list[str]]) -> str:
    """A table of text."""
    return str(AsciiTable([head, *rows], title).table)
