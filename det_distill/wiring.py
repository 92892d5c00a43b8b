"""Terms from their configs, each shown both nets before training; what does not fit fails here, by its name."""

from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS

from det_distill.building import build
from det_distill.refusals import blamed, choice
from det_distill.teachers.faculty import shared, taps_of
from det_distill.teachers.teacher import Teacher
from det_distill.terms.base import Term
from det_distill.views.base import View


def wired_terms(
    configs: Mapping[str, Any], student: View, teachers: Mapping[str, Teacher], scale: float
) -> dict[str, Term]:
    """Build every term and fit it to both nets, from one dry run of each net.

    Args:
        configs: Terms by name; None leaves one out.
        student: The student's view.
        teachers: The teachers by name.
        scale: Pixels of the student's input a pixel of the batch.

    Raises:
        ValueError: A term cannot be built, asks for what a side does not show, or cannot be fitted; names the term.
    """
    if not isinstance(configs, Mapping):
        raise ValueError(f"terms={configs!r:.80}; a dict of terms by name is expected")
    terms: dict[str, Term] = {}
    for name, cfg in configs.items():
        if cfg is None:
            continue
        if not name.isidentifier():
            raise ValueError(f"terms: {name!r} is no identifier; it becomes the log name 'loss_{name}'")
        with blamed(f"terms.{name}"):
            terms[name] = term = build(MODELS, {key: value for key, value in cfg.items() if key != "teacher"})
            term.teachers = _whom(term, cfg.get("teacher"), list(teachers))
            for tap in term.taps:
                student.stage(tap)
            for tap in shared(term.taps):
                for one in term.teachers:
                    teachers[one].view.stage(tap)
    with blamed("terms"):
        own = student.anatomy(sorted({tap for term in terms.values() for tap in term.taps}), scale)
        its = {name: one.anatomy(taps_of(terms.values(), name)) for name, one in teachers.items()}
    for name, term in terms.items():
        with blamed(f"terms.{name}"):
            term.wire(own, term.chosen(its))
    return terms


def _whom(term: Term, named: Any, known: list[str]) -> tuple[str, ...]:
    """The teachers of a term: those its config names, or all there are."""
    wanted = known if named is None else [named] if isinstance(named, str) else list(named)
    for one in wanted:
        choice("teacher", one, known)
    if not wanted:
        raise ValueError(f"teacher={named!r} names none; the teachers are {', '.join(known)}")
    if len(wanted) != 1 and not term.ensemble:
        raise ValueError(f"{type(term).__name__} learns from one teacher; set teacher= to one of {', '.join(known)}")
    return tuple(wanted)
