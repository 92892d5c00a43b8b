"""What a detector is made of, as a term finds it before training: maps, strides, anchors, box coders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class MapSpec:
    """Channels and stride (pixels a cell) of a feature map, as a dry run finds them."""

    channels: int
    stride: int


@dataclass(frozen=True)
class Pair:
    """A level of the student beside the teacher's: places in the tap, channels, strides in each net's own pixels."""

    places: tuple[int, int]
    channels: tuple[int, int]
    strides: tuple[int, int]


def _no_rois(_: torch.Tensor) -> torch.Tensor:
    raise ValueError("a detector without a RoI head classifies no RoI features")


@dataclass(frozen=True)
class Anatomy:
    """One detector before training.

    Attributes:
        side: "student" or "teacher", for messages.
        shows: By tap, a `MapSpec` per level, or the shape behind N.
        rpn: The RPN head; None on a single-stage detector.
        head: The box head of the RoI stage; None without one.
        scale: Pixels of its input a pixel of the batch: below 1 on a student of lower resolution.
        dense: The single-stage head; None on a two-stage detector.
        classify: Class logits (N, K + 1) of RoI features (N, C, h, w), where there is a RoI head.
        cuts: The tap that the RoI head cuts its boxes from, and its extractor; None without one.
        class_map: Of a teacher of other classes, pairs of its class and the student's.
    """

    side: str
    shows: Mapping[str, tuple[MapSpec, ...] | tuple[int, ...]]
    rpn: Any = None
    head: Any = None
    scale: float = 1.0
    dense: Any = None
    classify: Callable[[torch.Tensor], torch.Tensor] = _no_rois
    cuts: tuple[str, Any] | None = None
    class_map: tuple[tuple[int, int], ...] | None = None

    @property
    def grid_head(self) -> Any:
        """The head that judges every cell: the RPN, or the single-stage head."""
        return self.rpn or self.dense

    @property
    def priors(self) -> Any:
        """What it judges in every cell: the prior generator."""
        return self.grid_head.prior_generator

    def width(self, tap: str) -> int:
        """Channels of the crops, or length of the vectors, that a tap of the RoI head shows."""
        first = self.shows[tap][0]
        if isinstance(first, MapSpec):
            raise ValueError(f"'{tap}' shows feature maps on the {self.side}, not a tensor per box")
        return first

    def length(self, tap: str) -> int:
        """Length of the vectors that a tap of the RoI head shows.

        Raises:
            ValueError: It shows no vectors, such as R-FCN's votes.
        """
        if len(self.shows[tap]) > 1:
            raise ValueError(f"'{tap}' is no vector a box on the {self.side}: {self.shows[tap]}")
        return self.width(tap)

    def maps(self, tap: str) -> tuple[MapSpec, ...]:
        """The levels of a tap.

        Raises:
            ValueError: It shows no maps, or two of one stride.
        """
        specs = tuple(spec for spec in self.shows[tap] if isinstance(spec, MapSpec))
        if len(specs) < len(self.shows[tap]) or not specs:
            raise ValueError(f"'{tap}' shows {self.shows[tap]} on the {self.side}, not feature maps (B, C, H, W)")
        strides = [spec.stride for spec in specs]
        if len(set(strides)) < len(strides):
            raise ValueError(f"'{tap}' shows two maps of one stride on the {self.side}: {strides}")
        return specs


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
