"""Whether two detectors compare, before training: levels of one stride, anchors, box coders, classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from det_distill.views.anatomy import Anatomy


@dataclass(frozen=True)
class Pair:
    """A level of the student beside the teacher's: places in the tap, channels, strides in each net's own pixels."""

    places: tuple[int, int]
    channels: tuple[int, int]
    strides: tuple[int, int]


def paired(
    student: Anatomy, teacher: Anatomy, tap: str, strides: Sequence[int] | None = None, resize: bool = False
) -> list[Pair]:
    """The levels of a tap, finest first, paired by stride in pixels of the batch; with `resize` in each net's own.

    Args:
        strides: The student's levels wanted, in its own pixels; None wants all, and all of the teacher's too.

    Raises:
        ValueError: A level has no partner; says which strides both sides share.
    """
    scale = 1.0 if resize else student.scale
    own = {spec.stride: (place, spec) for place, spec in enumerate(student.maps(tap))}
    its = {spec.stride * scale: (place, spec) for place, spec in enumerate(teacher.maps(tap))}
    wanted = list(own) if strides is None else list(strides)
    if not wanted:
        raise ValueError(f"strides={strides} names no level; leave it out to compare all of '{tap}'")
    if (strides is None and set(own) != set(its)) or not set(wanted) <= set(own) & set(its):
        common = [stride for stride in own if stride in its]
        out = f"set strides={common} to compare what they share" if common else "they share no stride"
        if student.scale != 1 and not resize:
            out += f" at scale {student.scale:g}; resize=True brings the student's maps to the teacher's grid"
        raise ValueError(
            f"'{tap}' has strides {list(own)} on the student and [{', '.join(f'{stride:g}' for stride in its)}] on the "
            f"teacher, in the student's pixels, wanted {wanted}; {out}"
        )
    matched = [(own[stride], its[stride]) for stride in wanted]
    pairs = [Pair((i, k), (s.channels, t.channels), (s.stride, t.stride)) for (i, s), (k, t) in matched]
    return sorted(pairs, key=lambda pair: pair.strides)


def same_classes(student: Anatomy, teacher: Anatomy) -> None:
    """Demand that both RoI heads tell the same number of classes apart.

    Raises:
        ValueError: They do not.
    """
    own, its = student.shows["roi.logits"], teacher.shows["roi.logits"]
    if own != its:
        raise ValueError(f"'roi.logits' has shape {own} on the student and {its} on the teacher: other classes?")


def same_sizes(student: Anatomy, teacher: Anatomy, tap: str) -> tuple[int, int]:
    """Both nets' channels of a tap of the RoI head that shows crops, or vectors, of the same size on both sides.

    Raises:
        ValueError: It does not.
    """
    own, its = student.shows[tap], teacher.shows[tap]
    if len(own) != len(its) or own[1:] != its[1:]:
        raise ValueError(f"'{tap}' has shape (N, *{own}) on the student and (N, *{its}) on the teacher")
    return student.width(tap), teacher.width(tap)


def same_coder(student: Anatomy, teacher: Anatomy, stage: str) -> None:
    """Demand that box deltas mean the same on both sides.

    Args:
        stage: "rpn" or "roi".

    Raises:
        ValueError: The box coders differ, or a side regresses decoded boxes.
    """
    heads = [side.rpn if stage == "rpn" else side.head for side in (student, teacher)]
    for side, head in zip((student, teacher), heads, strict=True):
        if head.reg_decoded_bbox:
            raise ValueError(f"the {side.side}'s {stage} head has reg_decoded_bbox=True; encoded deltas are compared")
    own, its = (_meaning(head.bbox_coder) for head in heads)
    differing = [key for key in {**own, **its} if own.get(key) != its.get(key)]
    if differing:
        found = "; ".join(f"{key}: {own.get(key)} on the student, {its.get(key)} on the teacher" for key in differing)
        raise ValueError(f"the box coders of the {stage} heads differ, so their deltas do not compare: {found}")


def _meaning(coder: Any) -> dict[str, Any]:
    """What decides what a delta means: the coder's type and numbers, not how it decodes at the border."""
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in vars(coder).items()}
    return {"type": type(coder).__name__} | {k: v for k, v in found.items() if k not in ("clip_border", "use_box_type")}


def same_anchors(student: Anatomy, teacher: Anatomy) -> None:
    """Demand that both RPNs, or single-stage heads, judge the same anchors, in the same order.

    Raises:
        ValueError: The prior generators differ, or the inputs have different sizes.
    """
    if student.scale != 1:
        raise ValueError(
            f"the student's input has scale {student.scale:g}, so its anchors are not the teacher's; use head='roi'"
        )
    own, its = student.priors, teacher.priors
    if list(own.strides) != list(its.strides):
        raise ValueError(f"the anchors' strides differ: {own.strides} on the student, {its.strides} on the teacher")
    for stride, mine, other in zip(own.strides, own.base_anchors, its.base_anchors, strict=True):
        if mine.shape != other.shape or not torch.allclose(mine.cpu(), other.cpu()):
            raise ValueError(
                f"the anchors at stride {stride} differ: {_sides(mine)} on the student, {_sides(other)} on the teacher "
                "(width x height); give both the same anchor_generator"
            )


def _sides(anchors: torch.Tensor) -> str:
    sizes = (anchors[:, 2:] - anchors[:, :2]).tolist()
    return ", ".join(f"{width:.0f}x{height:.0f}" for width, height in sizes)
