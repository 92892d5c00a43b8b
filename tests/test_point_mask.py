"""PointMask marks the cells that MMDetection's FCOS head would train as positives, judged by that head itself."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

import tiny
from det_distill.masks import PointMask
from det_distill.scene import Level, Scene, levels_of

STRIDES = [8, 16, 32, 64, 128]
HEAD = MODELS.build(tiny.single_stage("fcos").bbox_head)  # no centre sampling; 64 pixels at stride 8, and so on


def grids(height: int, width: int) -> list[tuple[int, int]]:
    return [(-(-height // s), -(-width // s)) for s in STRIDES]


def scene_of(boxes: list[Tensor], size: tuple[int, int], ignored: list[Tensor] | None = None) -> Scene:
    return Scene(boxes, ignored or [torch.zeros(0, 4)] * len(boxes), [size] * len(boxes))


def marked(scene: Scene, sizes: list[tuple[int, int]], **mask: float) -> list[Tensor]:
    return PointMask(**mask)(scene, levels_of(None, sizes, STRIDES))


def positives(boxes: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
    """(B, H, W) per level: where the stock head's target is an object."""
    truth = [InstanceData(bboxes=one, labels=torch.zeros(len(one), dtype=torch.long)) for one in boxes]
    labels, _ = HEAD.get_targets(HEAD.prior_generator.grid_priors(sizes, dtype=torch.float32, device="cpu"), truth)
    return [(one < HEAD.num_classes).view(len(boxes), *size) for one, size in zip(labels, sizes, strict=True)]


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(one.equal(other) for one, other in zip(found, expected, strict=True))


def test_the_judge_samples_no_centres():
    assert not HEAD.center_sampling


@pytest.mark.parametrize("count", [1, 3, 12])
def test_equals_the_targets_of_the_stock_head_on_random_boxes(count: int):
    generator = torch.Generator().manual_seed(count)
    levels_on = torch.zeros(5, dtype=torch.bool)
    for case in range(30):
        height, width = 200 + 64 * (case % 5), 300 + 128 * (case % 6)
        boxes = []
        for _ in range(3):
            ends = torch.rand(count, 2, 2, generator=generator) * torch.tensor([width, height])
            sides = torch.rand(count, 1, generator=generator) ** 2  # of all sizes
            corner = ends.amin(dim=1)
            boxes.append(torch.cat((corner, corner + sides * (ends.amax(dim=1) - corner)), dim=1))
        sizes = grids(height, width)
        found = marked(scene_of(boxes, (height, width)), sizes)
        assert same(found, positives(boxes, sizes))
        levels_on |= torch.tensor([bool(one.any()) for one in found])
    assert count == 1 or levels_on.all()


corner = st.integers(0, 300)


@settings(max_examples=100, deadline=None)
@given(boxes=st.lists(st.tuples(corner, corner, corner, corner), max_size=4))
def test_whole_pixels_and_ties_of_a_side_with_a_range_are_judged_alike(boxes: list[tuple[int, int, int, int]]):
    """Empty boxes, boxes inside out and points on an edge among them."""
    drawn = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    assert same(marked(scene_of([drawn], (320, 320)), grids(320, 320)), positives([drawn], grids(320, 320)))


def test_gives_the_cells_worked_out_by_hand():
    # Stride 8, reach 2: points at 4, 12, 20, 28; the finest level takes sides up to 16.
    levels = [Level((4, 4), (8, 8), torch.zeros(0, 4)), Level((2, 2), (16, 16), torch.zeros(0, 4))]
    box = torch.tensor([[0.0, 0, 20, 16]])  # 20 on its edge is outside
    fine, coarse = PointMask(reach=2)(scene_of([box], (32, 32)), levels)
    # (4, 4): farthest 16, just within reach; (12, 4): 12; (4, 12), (12, 12) likewise.
    assert fine[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert coarse[0].nonzero().tolist() == []  # (8, 8): 12 is below 16
    fine, coarse = PointMask(reach=1)(scene_of([box], (32, 32)), levels)
    assert fine[0].nonzero().tolist() == []  # each has a side of 12 or 16, beyond 8
    assert coarse[0].nonzero().tolist() == [[0, 0]]


def test_the_finest_level_takes_boxes_however_small():
    box = torch.tensor([[3.7, 3.7, 4.3, 4.3]])  # about the first cell's centre, 0.3 pixels to each side
    found = marked(scene_of([box], (128, 128)), grids(128, 128))
    assert [one.nonzero().tolist() for one in found] == [[[0, 0, 0]], [], [], [], []]
    assert same(found, positives([box], grids(128, 128)))


def test_no_boxes_and_boxes_without_area_mark_nothing():
    boxes = [torch.zeros(0, 4), torch.tensor([[40.0, 40, 40, 40], [10, 90, 90, 90], [60, 60, 30, 30]])]
    assert not any(one.any() for one in marked(scene_of(boxes, (128, 128)), grids(128, 128)))
    assert not any(one.any() for one in positives(boxes, grids(128, 128)))


def test_cells_in_the_padding_and_on_ignored_areas_are_off():
    box, away = torch.tensor([[0.0, 0, 250, 250]]), torch.tensor([[30.0, 40, 130, 140]])
    sizes = grids(256, 256)
    plain = positives([box, box], sizes)
    scene = Scene([box, box], [away, away[:0]], [(256, 256), (200, 176)])
    for level, (found, expected) in enumerate(zip(marked(scene, sizes), plain, strict=True)):
        stride, (height, width) = STRIDES[level], sizes[level]
        for y, x in itertools.product(range(height), range(width)):
            px, py = (x + 0.5) * stride, (y + 0.5) * stride
            ignored = 30 <= px <= 130 and 40 <= py <= 140
            outside = y * stride >= 200 or x * stride >= 176  # no pixel of the second image
            assert found[0, y, x] == (expected[0, y, x] and not ignored)
            assert found[1, y, x] == (expected[1, y, x] and not outside)


def test_a_level_alone_takes_boxes_of_every_size():
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 500, 500]])
    [mask] = PointMask()(scene_of([boxes], (512, 512)), levels_of(None, [(64, 64)], [8]))
    centres = (torch.arange(64) + 0.5) * 8
    assert mask[0].equal((centres < 500)[:, None] & (centres < 500))


@pytest.mark.parametrize("reach", [0.5, 0, -1, float("nan")])
def test_a_reach_below_a_cell_is_refused(reach: float):
    with pytest.raises(ValueError, match=f"reach={reach}; a number of at least 1"):
        TASK_UTILS.build(dict(type="PointMask", reach=reach))
