"""Which boxes' embeddings are compared with which, judged by lists."""

from typing import Any

import pytest
import torch
from shown import batch, maps, specs, wired
from torch import Tensor
from torchvision.ops import roi_align

from det_distill.terms.embeddings import EmbeddingTerm
from det_distill.terms.relation.rkd import DistanceRelation

BACKGROUND, TAP = 3, "roi.embedding"
LABELS = [0, 3, 1, 2, 3, 0, 2, 1, 3]
IMAGES = [0, 0, 0, 0, 1, 1, 1, 1, 1]


class Probe(EmbeddingTerm):
    """Remembers the groups it was given; its value is how many boxes each has."""

    def group(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        self.seen = [*getattr(self, "seen", []), (student, teacher, labels)]
        return student.sum() * 0 + len(student)


class Head:
    num_classes = BACKGROUND


def sampled(labels: list[int] = LABELS, images: list[int] = IMAGES) -> tuple[dict[str, Any], dict[str, Any]]:
    """Box i has the embedding (i, 0) on the student and (i, 0, 0) on the teacher."""
    index = torch.arange(len(labels), dtype=torch.float32)
    rois = torch.cat((torch.tensor(images, dtype=torch.float32)[:, None], torch.rand(len(labels), 4)), dim=1)
    own, its = (torch.nn.functional.pad(index[:, None], (0, more)).requires_grad_() for more in (1, 2))
    return {TAP: own, "roi.rois": rois, "roi.targets": (torch.tensor(labels),)}, {TAP: its}


def groups_of(term: Probe) -> list[list[int]]:
    for student, teacher, labels in term.seen:
        assert student[:, 0].tolist() == teacher[:, 0].tolist()
        assert labels.tolist() == [LABELS[int(i)] for i in student[:, 0]]
    return [student[:, 0].long().tolist() for student, _, _ in term.seen]


EXPECTED = {
    ("positive", "batch", 128): [[0, 2, 3, 5, 6, 7]],
    ("positive", "image", 128): [[0, 2, 3], [5, 6, 7]],
    ("sampled", "batch", 128): [[0, 1, 2, 3, 4, 5, 6, 7, 8]],
    ("sampled", "image", 128): [[0, 1, 2, 3], [4, 5, 6, 7, 8]],
    ("positive", "batch", 3): [[0, 3, 6]],  # of 6 the places 0, 2, 4
    ("sampled", "batch", 4): [[0, 2, 4, 6]],  # of 9 the places 0, 2.25, 4.5, 6.75, rounded down
    ("sampled", "image", 3): [[0, 1, 2], [4, 5, 7]],  # of 4 the places 0, 1.3, 2.7; of 5 those at 0, 1.7, 3.3
}


@pytest.mark.parametrize(("boxes", "per", "cap"), EXPECTED)
def test_boxes_are_chosen_grouped_and_capped(boxes, per, cap):
    term = wired(Probe(weight=1, boxes=boxes, per=per, cap=cap), {TAP: (2,)}, {TAP: (3,)}, head=Head)
    value = term(*sampled(), batch([[], []]))
    found = groups_of(term)
    assert found == EXPECTED[boxes, per, cap]
    assert value.item() == pytest.approx(sum(map(len, found)) / len(found))


def test_an_image_without_positives_is_a_group_of_none():
    term = wired(Probe(weight=1, per="image"), {TAP: (2,)}, {TAP: (3,)}, head=Head)
    value = term(*sampled(images=[0] * 9), batch([[], []]))
    assert groups_of(term) == [[0, 2, 3, 5, 6, 7], []]
    assert value.item() == 3
    value.backward()


def test_without_any_box_the_value_trains():
    term = wired(Probe(weight=1), {TAP: (2,)}, {TAP: (3,)}, head=Head)
    shown, goal = sampled([3] * 4, [0] * 4)
    term(shown, goal, batch([[], []])).backward()
    assert shown[TAP].grad is not None


# FPN's rule, where the finest level has stride 2: sqrt(area) below 56 pixels lies there, below 112 on the next.
BOXES = [[[4.0, 4, 40, 40], [0, 0, 90, 60]], [[10.5, 3.25, 60, 50]]]
LEVEL = [0, 1, 0]  # sides 36, 73.5, 48.1


def crops(own: Any, its: Any, scale: float = 1.0, boxes: Any = BOXES, strides: Any = ((2, 4), (2, 4))) -> Any:
    shows = [dict(neck=specs(4, *strides[0])), dict(neck=specs(6, *strides[1]))]
    term = wired(Probe(weight=1, tap="neck"), *shows, scale=scale)
    term(dict(neck=own), dict(neck=its), batch(boxes, [[2, 1], [0]]))
    return term.seen[0]


def test_of_maps_it_is_the_mean_of_each_ground_truth_box_s_crop():
    own, its = maps(4, 2, 4), maps(6, 2, 4, seed=1)
    student, teacher, labels = crops(own, its)
    rois = torch.tensor([[image, *box] for image, some in enumerate(BOXES) for box in some])
    for found, sides in ((student, own), (teacher, its)):
        for i, k in enumerate(LEVEL):
            crop = roi_align(sides[k], rois[i : i + 1], 7, 1 / (2, 4)[k], -1, aligned=True)
            torch.testing.assert_close(found[i], crop[0].mean(dim=(1, 2)))
    assert labels.tolist() == [2, 1, 0]


def constant(channels: int, *strides: int, scale: float = 1.0) -> tuple[Tensor, ...]:
    """Every level shows its place, in all images and channels."""
    found = maps(channels, *strides, scale=scale)
    return tuple(torch.full_like(one, place, requires_grad=True) for place, one in enumerate(found))


def test_on_constant_maps_it_is_the_constant_of_the_box_s_level():
    student, teacher, _ = crops(constant(4, 2, 4), constant(6, 2, 4))
    assert student.tolist() == [[float(k)] * 4 for k in LEVEL]
    assert teacher.tolist() == [[float(k)] * 6 for k in LEVEL]


def test_at_half_the_resolution_boxes_scaled_with_the_image_lie_on_the_same_level_of_both_nets():
    """Low resolution (Karlekar et al., 2019): the student's boxes are in its own pixels, its levels finer by half."""
    small = [[[side / 2 for side in box] for box in some] for some in BOXES]
    student, teacher, _ = crops(constant(4, 1, 2, scale=0.5), constant(6, 2, 4), 0.5, small, ((1, 2), (2, 4)))
    assert student[:, 0].tolist() == teacher[:, 0].tolist() == LEVEL


def test_identical_nets_inputs_and_scales_are_no_distance_apart():
    own, shows = maps(4, 2, 4), dict(neck=specs(4, 2, 4))
    term = wired(DistanceRelation(weight=1, tap="neck"), shows, shows)
    assert term(dict(neck=own), dict(neck=own), batch(BOXES)).item() == 0
    assert term(dict(neck=own), dict(neck=maps(4, 2, 4, seed=1)), batch(BOXES)) > 0


def test_without_ground_truth_crops_train_too():
    for strides in ([4, 8], [8]):
        own = maps(4, *strides)
        shows = dict(neck=specs(4, *strides))
        term = wired(Probe(weight=1, tap="neck"), shows, shows)
        term(dict(neck=own), dict(neck=own), batch([[], []])).backward()
        assert all(one.grad is not None for one in own[:1])


@pytest.mark.parametrize("config", [dict(boxes="negative"), dict(per="class"), dict(cap=0)])
def test_unknown_choices_are_refused(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        Probe(weight=1, **config)


def test_levels_of_other_channels_are_refused():
    own = dict(backbone=(*specs(4, 4), *specs(8, 8)))
    with pytest.raises(ValueError, match=r"'backbone' has levels of differing channels .*set strides=\[one\]"):
        wired(Probe(weight=1, tap="backbone"), own, own)
    assert wired(Probe(weight=1, tap="backbone", strides=[8]), own, own).crops.pairs[0].channels == (8, 8)
