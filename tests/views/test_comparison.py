"""Levels are paired by what they cover of the batch; what does not compare is refused with what to do."""

from types import SimpleNamespace
from typing import Any

import pytest
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator

from det_distill.views.anatomy import Anatomy, MapSpec
from det_distill.views.comparison import Pair, paired, same_anchors, same_coder


def net(side: str, levels: list[tuple[int, int]] | None = None, scale: float = 1.0, **head: Any) -> Anatomy:
    """One side with maps of (channels, stride); both its heads are made of `head`."""
    shows = dict(neck=tuple(MapSpec(*level) for level in levels or []), roi=(16, 7, 7))
    one = SimpleNamespace(**dict(reg_decoded_bbox=False, bbox_coder=DeltaXYWHBBoxCoder()) | head)
    return Anatomy(side, shows, rpn=one, head=one, scale=scale)


def sides(own: list[tuple[int, int]], its: list[tuple[int, int]], scale: float = 1.0) -> tuple[Anatomy, Anatomy]:
    return net("student", own, scale), net("teacher", its)


PYRAMID = [(8, 4), (16, 8), (32, 16)]


def test_levels_meet_by_stride_wherever_they_lie():
    found = paired(*sides(PYRAMID, [(99, 16), (77, 4), (88, 8)]), "neck")
    assert found == [
        Pair((0, 1), (8, 77), (4, 4)),
        Pair((1, 2), (16, 88), (8, 8)),
        Pair((2, 0), (32, 99), (16, 16)),
    ]


@pytest.mark.parametrize(
    ("scale", "its", "strides", "resize", "expected"),
    [
        (0.5, [(9, 8), (9, 16), (9, 32)], None, False, [(4, 8), (8, 16), (16, 32)]),
        (0.5, PYRAMID, [4, 8], False, [(4, 8), (8, 16)]),
        (0.5, PYRAMID, None, True, [(4, 4), (8, 8), (16, 16)]),
        (0.5, PYRAMID, [16], True, [(16, 16)]),
        (0.75, [(9, 16)], [], False, None),
        (1.0, [(9, 32), (9, 16)], [16], False, [(16, 16)]),
        (1.0, PYRAMID, [16, 4], False, [(4, 4), (16, 16)]),
    ],
)
def test_strides_are_counted_in_pixels_of_the_batch_unless_maps_are_resized(scale, its, strides, resize, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"strides=\[\] names no level; leave it out to compare all of 'neck'"):
            paired(*sides(PYRAMID, its, scale), "neck", strides, resize)
    else:
        found = paired(*sides(PYRAMID, its, scale), "neck", strides, resize)
        assert [pair.strides for pair in found] == expected


@pytest.mark.parametrize(
    ("scale", "its", "strides", "resize", "said"),
    [
        (1, PYRAMID[:2], None, False,
         r"'neck' has strides \[4, 8, 16\] on the student and \[4, 8\] on the teacher, in the student's pixels, wanted "
         r"\[4, 8, 16\]; set strides=\[4, 8\] to compare what they share$"),
        (1, [*PYRAMID, (64, 32)], None, False, r"set strides=\[4, 8, 16\] to compare"),
        (1, PYRAMID, [4, 5], False, r"wanted \[4, 5\]; set strides=\[4, 8, 16\]"),
        (1, [(1, 64)], [4], False, r"\[64\] on the teacher.*; they share no stride$"),
        (0.5, PYRAMID, None, False, r"\[2, 4, 8\] on the teacher.*set strides=\[4, 8\].* at scale 0\.5; resize=True"),
        (0.75, PYRAMID, None, False, r"and \[3, 6, 12\] on the teacher.*they share no stride at scale 0\.75; resize=T"),
        (0.5, [(1, 64)], None, True, r"\[64\] on the teacher.*; they share no stride$"),
    ],
)  # fmt: skip
def test_a_level_without_a_partner_is_refused_with_what_is_shared(scale, its, strides, resize, said):
    with pytest.raises(ValueError, match=said):
        paired(*sides(PYRAMID, its, scale), "neck", strides, resize)


def test_what_is_no_set_of_maps_is_refused_by_side():
    student, teacher = sides(PYRAMID, [(8, 4), (9, 4)])
    with pytest.raises(ValueError, match=r"'neck' shows two maps of one stride on the teacher: \[4, 4\]"):
        paired(student, teacher, "neck")
    with pytest.raises(ValueError, match=r"'roi' shows \(16, 7, 7\) on the student, not feature maps"):
        paired(student, teacher, "roi")
    with pytest.raises(ValueError, match=r"'neck' shows \(\) on the student, not feature maps"):
        paired(*sides([], PYRAMID), "neck")


def coder(**other: Any) -> DeltaXYWHBBoxCoder:
    return DeltaXYWHBBoxCoder(**dict(target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(0.1, 0.1, 0.2, 0.2)) | other)


@pytest.mark.parametrize("stage", ["rpn", "roi"])
@pytest.mark.parametrize(
    "other", [dict(clip_border=False), dict(target_stds=[0.1, 0.1, 0.2, 0.2]), dict(target_means=[0, 0, 0, 0]), {}]
)
def test_what_does_not_change_a_deltas_meaning_is_no_difference(stage, other):
    same_coder(net("student", bbox_coder=coder()), net("teacher", bbox_coder=coder(**other)), stage)


@pytest.mark.parametrize("stage", ["rpn", "roi"])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (coder(target_stds=(1.0, 1.0, 1.0, 1.0)), r"stds: \(0\.1, 0\.1, 0\.2, 0\.2\) on the student, \(1\.0, 1\.0, "),
        (coder(target_means=(0.5, 0.0, 0.0, 0.0)), r"means: \(0\.0, .* on the student, \(0\.5, 0\.0, 0\.0, 0\.0\) on"),
        (LegacyDeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2)), "type: DeltaXYWHBBoxCoder on .*, Legacy"),
    ],
    ids=["stds", "means", "type"],
)
def test_other_coders_are_refused_number_by_number(stage, other, said):
    with pytest.raises(ValueError, match=f"box coders of the {stage} heads differ.*{said}"):
        same_coder(net("student", bbox_coder=coder()), net("teacher", bbox_coder=other), stage)


@pytest.mark.parametrize("decoded", ["student", "teacher"])
def test_decoded_boxes_are_refused_by_side(decoded):
    student, teacher = (net(side, reg_decoded_bbox=side == decoded) for side in ("student", "teacher"))
    with pytest.raises(ValueError, match=f"the {decoded}'s roi head has reg_decoded_bbox=True"):
        same_coder(student, teacher, "roi")


def anchored(side: str, scale: float = 1.0, **other: Any) -> Anatomy:
    generator = dict(strides=[4, 8], ratios=[0.5, 2.0], scales=[8]) | other
    return net(side, scale=scale, prior_generator=AnchorGenerator(**generator))


def test_equal_anchors_pass_however_they_are_written():
    same_anchors(anchored("student"), anchored("teacher", strides=[(4, 4), (8, 8)], ratios=(0.5, 2), scales=(8.0,)))


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        ({}, dict(strides=[4, 8, 16]), r"strides differ: \[\(4, 4\), \(8, 8\)\] on the student, .*\(16, 16\)\] on the"),
        ({}, dict(strides=[8, 4]), "anchors' strides differ"),
        ({}, dict(scales=[16]), r"at stride \(4, 4\) differ: 45x23, 23x45 on the student, 91x45, 45x91 on the teacher"),
        ({}, dict(ratios=[2.0, 0.5]), "23x45 on the student, 23x45, 45x23 on the teacher.*the same anchor_generator"),
        ({}, dict(ratios=[0.5]), "differ: 45x23, 23x45 on the student, 45x23 on the teacher"),
        (dict(scale=0.5), {}, r"input has scale 0\.5, so its anchors are not the teacher's; use head='roi'"),
    ],
    ids=["levels", "order of levels", "sizes", "order of ratios", "number", "scale"],
)  # fmt: skip
def test_other_anchors_are_refused_with_both_sizes(student, teacher, said):
    with pytest.raises(ValueError, match=said):
        same_anchors(anchored("student", **student), anchored("teacher", **teacher))
