"""Terms from their configs, each shown both nets before training; what does not fit fails here, by its name."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmdet.registry import MODELS

from det_distill.configs import blamed, build
from det_distill.terms.base import Term
from det_distill.views.two_stage import TRAINING, TwoStageView


def wired_terms(
    configs: Mapping[str, Any], student: TwoStageView, teacher: TwoStageView, scale: float
) -> dict[str, Term]:
    """Build every term and fit it to both nets, from one dry run a side.

    Args:
        configs: Terms by name; None leaves one out.
        student: The student's view.
        teacher: The teacher's view.
        scale: Pixels of the student's input a pixel of the batch.

    Raises:
        ValueError: A term cannot be built, asks for what a side does not show, or cannot be fitted; names the term.
    """
    terms: dict[str, Term] = {}
    for name, cfg in configs.items():
        if cfg is None:
            continue
        if not name.isidentifier():
            raise ValueError(f"terms: {name!r} is no identifier; it becomes the log name 'loss_{name}'")
        with blamed(f"terms.{name}"):
            terms[name] = build(MODELS, cfg)
            for tap in terms[name].taps:
                student.stage(tap)
            for tap in shared(terms[name].taps):
                teacher.stage(tap)
    taps = sorted({tap for term in terms.values() for tap in term.taps})
    with blamed("terms"):
        own, its = student.anatomy(taps, scale), teacher.anatomy(shared(taps))
    for name, term in terms.items():
        with blamed(f"terms.{name}"):
            term.wire(own, its)
    return terms


def shared(taps: Iterable[str]) -> list[str]:
    """The taps that both sides show, in order."""
    return [tap for tap in taps if tap not in TRAINING]
