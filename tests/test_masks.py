"""Masks against the published definition, anchor by anchor, box by box."""

import re
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.prior_generators import AnchorGenerator, MlvlPointGenerator
from torch import Tensor

import det_distill.plugins  # noqa: F401
from det_distill.masks import AnchorIoUMask, FullMask, GtBoxMask, Mask, PointMask, cells_on, demand_anchors
from det_distill.masks.painting import paint, size_level
from det_distill.scene import Level, Scene, levels_of


def iou_map(box, anchors):
    """(n,) IoU of one box with (n, 4) anchors."""
    x1, y1 = np.maximum(box[0], anchors[:, 0]), np.maximum(box[1], anchors[:, 1])
    x2, y2 = np.minimum(box[2], anchors[:, 2]), np.minimum(box[3], anchors[:, 3])
    inter = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
    area = max(0, box[2] - box[0]) * max(0, box[3] - box[1])
    return inter / (area + (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1]) - inter)


def home_of(box, levels, finest=56):
    side = np.sqrt(max(0, box[2] - box[0]) * max(0, box[3] - box[1]))
    return 0 if side == 0 else int(np.clip(np.floor(np.log2(side / finest)), 0, levels - 1))


def box_by_box(priors: AnchorGenerator, scene: Scene, sizes, psi, assignment) -> list[np.ndarray]:
    """The definition: IoU of each box with all of MMDetection's own anchors, in fp64, one box at a time."""
    grids = [grid.double().numpy() for grid in priors.grid_priors(sizes, device="cpu")]
    masks = []
    for size in sizes:
        masks.append(np.zeros((len(scene.shapes), *size), bool))
    for image, boxes in enumerate(scene.boxes):
        h, w = scene.shapes[image]
        flags = [flag.numpy() for flag in priors.valid_flags(sizes, (h, w), device="cpu")]
        for box in boxes.double().numpy():
            maps = [np.where(flag, iou_map(box, grid), 0) for grid, flag in zip(grids, flags, strict=True)]
            for index, size in enumerate(sizes):
                if assignment == "size" and index != home_of(box, len(sizes)):
                    continue
                best = max(m.max() for m in maps) if assignment == "joint" else maps[index].max()
                on = maps[index].reshape(*size, -1) > psi * best * (1 + 1e-12)
                masks[index][image] |= on.any(axis=2)
    return masks


def scene_of(
    generator: torch.Generator, batch: int, count: int, height: int, width: int, exactly: bool = False
) -> Scene:
    boxes, shapes = [], []
    for _ in range(batch):
        n = count if exactly else int(torch.randint(0, count + 1, (), generator=generator))
        corner = torch.rand(n, 2, generator=generator) * torch.tensor([width, height]) * 0.9
        side = 4 + torch.rand(n, 2, generator=generator) ** 2 * torch.tensor([width, height])
        boxes.append(torch.cat((corner, torch.minimum(corner + side, torch.tensor([width, height]))), dim=1))
        shapes.append((height - int(torch.randint(0, 20, (), generator=generator)), width))
    return Scene(boxes, [torch.zeros(0, 4)] * batch, shapes)


PRIORS = AnchorGenerator(strides=[4, 8, 16], ratios=[0.5, 1.0, 2.0], scales=[8])


def sizes_for(priors, height, width):
    return [(-(-height // s[1]), -(-width // s[0])) for s in priors.strides]


@pytest.mark.parametrize("assignment", ["size", "joint", "every"])
@pytest.mark.parametrize("psi", [0.2, 0.5, 0.8, 1.0])
def test_equals_the_definition_box_by_box_on_random_scenes(psi, assignment):
    generator = torch.Generator().manual_seed(7)
    for case in range(17):  # 3 x 4 x 17 = 204 scenes
        height, width = 64 + 16 * (case % 5), 96 + 8 * (case % 3)
        scene = scene_of(generator, 2, 4, height, width)
        sizes = sizes_for(PRIORS, height, width)

        masks = AnchorIoUMask(psi, assignment)(scene, levels_of(PRIORS, sizes, [4, 8, 16]))

        for mask, expected in zip(masks, box_by_box(PRIORS, scene, sizes, psi, assignment), strict=True):
            assert np.array_equal(mask.numpy(), expected)


@pytest.mark.parametrize("assignment", ["size", "joint", "every"])
def test_other_numbers_of_anchors_ignored_areas_and_boxes_over_the_edge_equal_the_definition_too(assignment):
    priors = AnchorGenerator(strides=[4, 8, 16], ratios=[0.5, 1.0, 2.0], scales=[8])
    priors.base_anchors[1] = priors.base_anchors[1][2:]
    generator, sizes = torch.Generator().manual_seed(7), sizes_for(priors, 96, 128)
    for _ in range(10):
        scene = scene_of(generator, 3, 4, 96, 128)
        scene.ignored[1] = torch.tensor([[16.0, 32, 64, 80]])
        scene.boxes[2] = torch.cat((scene.boxes[2] - 60, scene.boxes[2] + 60))
        masks = AnchorIoUMask(0.5, assignment)(scene, levels_of(priors, sizes, [4, 8, 16]))
        for stride, mask, expected in zip(
            (4, 8, 16), masks, box_by_box(priors, scene, sizes, 0.5, assignment), strict=True
        ):
            expected[1, 32 // stride : 80 // stride, 16 // stride : 64 // stride] = False
            assert np.array_equal(mask.numpy(), expected)


def test_boxes_thinner_than_a_pixel_equal_the_definition_too():
    priors = AnchorGenerator(strides=[1, 2], ratios=[0.5, 1.0, 2.0], scales=[2])
    generator, sizes = torch.Generator().manual_seed(7), [(12, 16), (6, 8)]
    for _ in range(20):
        corner = torch.rand(3, 2, generator=generator) * 10
        boxes = torch.cat((corner, corner + torch.rand(3, 2, generator=generator) * torch.tensor([0.7, 4])), dim=1)
        scene = Scene([boxes], [torch.zeros(0, 4)], [(12, 16)])
        masks = AnchorIoUMask(0.5, "every")(scene, levels_of(priors, sizes, [1, 2]))
        for mask, expected in zip(masks, box_by_box(priors, scene, sizes, 0.5, "every"), strict=True):
            assert np.array_equal(mask.numpy(), expected)


def exact_mask(level: Level, boxes: Tensor, psi: Fraction) -> np.ndarray:
    """The definition in rational arithmetic: ties are ties."""
    height, width = level.size
    on = np.zeros((height, width), bool)
    for box in boxes.tolist():
        iou = {}
        for y, x in np.ndindex(height, width):
            for k, (ax1, ay1, ax2, ay2) in enumerate(level.anchors.long().tolist()):
                x1, x2 = ax1 + x * level.stride[0], ax2 + x * level.stride[0]
                y1, y2 = ay1 + y * level.stride[1], ay2 + y * level.stride[1]
                wide = max(0, min(x2, int(box[2])) - max(x1, int(box[0])))
                inter = wide * max(0, min(y2, int(box[3])) - max(y1, int(box[1])))
                union = (x2 - x1) * (y2 - y1) + int((box[2] - box[0]) * (box[3] - box[1])) - inter
                iou[y, x, k] = Fraction(inter, union)
        best = max(iou.values())
        for (y, x, _), value in iou.items():
            on[y, x] |= value > psi * best
    return on


corner = st.integers(0, 12)
boxes_strategy = st.lists(
    st.tuples(corner, corner, st.integers(1, 10), st.integers(1, 10)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(boxes=boxes_strategy, psi=st.sampled_from(["1/5", "1/3", "1/2", "2/3", "1"]))
def test_exact_ties_are_off_as_rational_arithmetic_says(boxes, psi):
    anchors = torch.tensor([[-3.0, -3, 3, 3], [-4, -2, 4, 2]])
    level, boxes = Level((7, 6), (2, 2), anchors), torch.tensor(boxes, dtype=torch.float32)
    scene = Scene([boxes], [torch.zeros(0, 4)], [(14, 12)])

    [mask] = AnchorIoUMask(float(Fraction(psi)), "every")(scene, [level])

    assert np.array_equal(mask[0].numpy(), exact_mask(level, boxes, Fraction(psi)))


def test_half_of_the_best_iou_is_not_more_than_half():
    level = Level((1, 4), (2, 2), torch.tensor([[0.0, 0, 6, 2]]))
    scene = Scene([torch.tensor([[0.0, 0, 6, 2]])], [torch.zeros(0, 4)], [(2, 8)])
    # IoU along the row: 1, 4/8 = .5, 2/10 = .2, 0; psi * max = .5
    [mask] = AnchorIoUMask(0.5, "every")(scene, [level])
    assert mask.tolist() == [[[True, False, False, False]]]


def test_an_anchor_that_overlaps_too_little_does_not_mark_the_first_cell():
    # The second anchor is the box itself at cell 1; the first begins within the box at cell 0: IoU 2 / 12.
    level = Level((1, 3), (4, 4), torch.tensor([[2.0, 0, 6, 2], [-4, 0, -1, 2]]))
    scene = Scene([torch.tensor([[0.0, 0, 3, 2]])], [torch.zeros(0, 4)], [(4, 12)])
    [mask] = AnchorIoUMask(0.5, "every")(scene, [level])
    assert mask.tolist() == [[[False, True, False]]]


def test_the_notes_oracle_two_boxes_on_four_cells():
    # One anchor a cell, IoUs g1 = (.125, .25, .5, .375), g2 = (.75, .25, 0, 0) of METHODS are no sliding anchor's;
    # the same logic on IoUs an anchor can have: on where either box passes half of its own best.
    level = Level((1, 4), (4, 4), torch.tensor([[0.0, 0, 8, 4]]))
    boxes = torch.tensor([[8.0, 0, 16, 4], [0.0, 0, 4, 4]])
    # g1: 0, 4/12, 1, 4/12 -> cell 2 alone; g2: 4/8, 0, 0, 0 -> cell 0
    [mask] = AnchorIoUMask(0.5, "every")(Scene([boxes], [torch.zeros(0, 4)], [(4, 16)]), [level])
    assert mask.tolist() == [[[True, False, True, False]]]


MASKS = [AnchorIoUMask(0.5, a) for a in ("size", "joint", "every")] + [AnchorIoUMask(0), GtBoxMask(), FullMask()]


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: f"{type(m).__name__}-{getattr(m, 'level_assignment', '')}")
class TestEveryMask:
    sizes = ((32, 40), (16, 20), (8, 10))

    def levels(self):
        return levels_of(PRIORS, self.sizes, [4, 8, 16])

    def test_padding_stays_off_and_another_image_has_no_say(self, mask):
        box = torch.tensor([[10.0, 10, 70, 60]])
        alone = Scene([box], [torch.zeros(0, 4)], [(64, 90)])
        other = torch.tensor([[0.0, 0, 160, 128]])
        both = Scene([box, other], [torch.zeros(0, 4)] * 2, [(64, 90), (128, 160)])
        for level, one, two in zip(self.levels(), mask(alone, self.levels()), mask(both, self.levels()), strict=True):
            stride = level.stride[0]
            assert not one[:, -(-64 // stride) :].any()
            assert not one[:, :, -(-90 // stride) :].any()
            assert torch.equal(one[0], two[0])

    def test_ignored_areas_stay_off(self, mask):
        box, ignored = torch.tensor([[10.0, 10, 110, 100]]), torch.tensor([[32.0, 32, 80, 80]])
        free = mask(Scene([box], [torch.zeros(0, 4)], [(128, 160)]), self.levels())
        held = mask(Scene([box], [ignored], [(128, 160)]), self.levels())
        for level, a, b in zip(self.levels(), free, held, strict=True):
            s = level.stride[0]
            for y, x in np.ndindex(*level.size):
                centre_ignored = all(32 <= (k + 0.5) * s <= 80 for k in (x, y))
                assert b[0, y, x] == (a[0, y, x] and not centre_ignored)

    def test_no_boxes_and_zero_area_boxes_mark_nothing(self, mask):
        flat = torch.tensor([[5.3, 5, 5.3, 40], [7.0, 7, 7, 7]])
        scene = Scene([torch.zeros(0, 4), flat], [torch.zeros(0, 4)] * 2, [(128, 160)] * 2)
        everywhere = isinstance(mask, FullMask) or getattr(mask, "psi", None) == 0
        for m in mask(scene, self.levels()):
            assert bool(m.any()) == everywhere

    def test_only_empty_images(self, mask):
        for m in mask(Scene([torch.zeros(0, 4)], [torch.zeros(0, 4)], [(128, 160)]), self.levels()):
            assert (m.dtype, m.shape[0]) == (torch.bool, 1)


def test_gt_box_mask_is_the_cells_a_box_touches():
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        scene = scene_of(generator, 2, 3, 64, 80)
        [mask] = GtBoxMask("every")(scene, [Level((16, 20), (4, 4), torch.zeros(0, 4))])
        for image, (boxes, (h, w)) in enumerate(zip(scene.boxes, scene.shapes, strict=True)):
            for y, x in np.ndindex(16, 20):
                touched = any(
                    b[0] < 4 * x + 4 and b[2] > 4 * x and b[1] < 4 * y + 4 and b[3] > 4 * y for b in boxes.tolist()
                )
                assert mask[image, y, x] == (touched and 4 * y < h and 4 * x < w)


@pytest.mark.parametrize("kind", [AnchorIoUMask, GtBoxMask])
def test_size_assignment_halves_at_each_level(kind: type):
    # sqrt(wh) of 56 is level 0's last octave start: [56, 112) -> 0, [112, 224) -> 1, [224, ...) -> 2
    levels = levels_of(PRIORS, [(128, 128), (64, 64), (32, 32)], [4, 8, 16])
    for side, home in ((20, 0), (111, 0), (112, 1), (223, 1), (224, 2), (500, 2)):
        scene = Scene([torch.tensor([[9.0, 5, 9 + side, 5 + side]])], [torch.zeros(0, 4)], [(512, 512)])
        assert [bool(m.any()) for m in kind()(scene, levels)] == [k == home for k in range(3)]
        assert [bool(m.any()) for m in kind(finest_scale=1000)(scene, levels)] == [True, False, False]
        assert all(m.any() for m in kind(level_assignment="every")(scene, levels))


def test_the_level_of_a_size_goes_by_the_area_of_any_box():
    # w, h and the level by hand: sqrt(400 * 25) = 100; sqrt(0.5 * 20000) = 100; 112 twice; 3 octaves, but 3 levels
    sides = [
        (400.0, 25.0, 0),
        (0.5, 20000.0, 0),
        (448.0, 28.0, 1),
        (28.0, 448.0, 1),
        (0.0, 300.0, 0),
        (900.0, 900.0, 2),
    ]
    boxes = torch.tensor([(30.0, 7.0, 30 + w, 7 + h) for w, h, _ in sides], dtype=torch.float64)
    assert size_level(boxes, 3, 56.0).tolist() == [home for *_, home in sides]


class Untouchable:
    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"looked at {name}")


@pytest.mark.parametrize("kind", [AnchorIoUMask, GtBoxMask, PointMask, FullMask])
def test_cells_on_is_the_mask_on_the_levels_of_the_maps(kind: type):
    box = torch.tensor([[10.0, 10, 70, 60], [0.0, 0, 160, 128]])
    scene = Scene([box], [torch.zeros(0, 4)], [(120, 160)])
    maps = [torch.zeros(1, 5, 16, 20), torch.zeros(1, 5, 8, 10)]
    mask = kind()
    priors = PRIORS if mask.needs_anchors else Untouchable()

    found = cells_on(mask, scene, priors, maps, [8, 16])

    expected = mask(scene, levels_of(PRIORS if mask.needs_anchors else None, [(16, 20), (8, 10)], [8, 16]))
    assert [m.shape for m in found] == [(1, 16, 20), (1, 8, 10)]
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))
    assert any(m.any() for m in found)


@pytest.mark.parametrize("kind", [GtBoxMask, PointMask, FullMask])
def test_a_mask_without_anchors_demands_none(kind: type):
    assert not kind.needs_anchors
    demand_anchors(kind(), MlvlPointGenerator([8]), [32])


def test_a_mask_of_anchors_demands_them_at_every_stride_compared():
    mask = AnchorIoUMask()
    demand_anchors(mask, PRIORS, [4, 8, 16])
    demand_anchors(mask, PRIORS, [8])
    told = "AnchorIoUMask needs anchors, the student judges points; use PointMask or GtBoxMask"
    with pytest.raises(ValueError, match=f"^{told}$"):
        demand_anchors(mask, MlvlPointGenerator([8]), [8])
    for strides in ([32], [8, 32], [4, 8, 16, 32]):
        told = f"AnchorIoUMask needs anchors at strides {strides}, the student's have [4, 8, 16]; set strides=, or use"
        with pytest.raises(ValueError, match=f"^{re.escape(told)} GtBoxMask$"):
            demand_anchors(mask, PRIORS, strides)


@given(psi=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_larger_psi_never_adds_a_cell(psi, seed):
    scene = scene_of(torch.Generator().manual_seed(seed), 1, 3, 64, 64)
    levels = levels_of(PRIORS, sizes_for(PRIORS, 64, 64), [4, 8, 16])
    low, high = (AnchorIoUMask(p, "joint")(scene, levels) for p in sorted(psi))
    assert not any((b & ~a).any() for a, b in zip(low, high, strict=True))


@pytest.mark.parametrize(
    ("kind", "kwargs", "words"),
    [
        (AnchorIoUMask, {"psi": 1.5}, "^psi=1.5 lies outside"),
        (AnchorIoUMask, {"psi": -0.1}, "^psi=-0.1 lies outside"),
        (AnchorIoUMask, {"level_assignment": "sise"}, "^level_assignment='sise' is none of 'size', 'joint', 'every'"),
        (GtBoxMask, {"level_assignment": "joint"}, "^level_assignment='joint' is none of 'size', 'every'"),
    ],
)
def test_a_wrong_setting_is_named(kind: type, kwargs: dict, words: str):
    with pytest.raises(ValueError, match=words):
        kind(**kwargs)


def test_a_row_that_ends_before_it_begins_hides_no_other():
    left, right = torch.tensor([[1, 0], [3, 0]]), torch.tensor([[3, 0], [1, 0]])  # two stacks of two rows
    [painted] = paint(torch.tensor([0, 0]), torch.tensor([0, 0]), left, right, 1, [(2, 4)])
    assert painted.tolist() == [[[False, True, True, False], [False] * 4]]


@pytest.mark.parametrize("mask", [*MASKS, PointMask()], ids=lambda m: type(m).__name__)
def test_the_default_device_has_no_say(mask: Mask):
    box, ignored = torch.tensor([[10.0, 10, 110, 100]]), torch.tensor([[32.0, 32, 80, 80]])
    scene = Scene([box], [ignored], [(120, 160)])
    levels = levels_of(PRIORS, [(32, 40), (16, 20), (8, 10)], [4, 8, 16])
    expected = mask(scene, levels)
    with torch.device("meta"):  # holds no numbers, so a grid that is made there shows no cell
        found = mask(scene, levels)
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


def test_a_stride_without_anchors_is_named():
    with pytest.raises(ValueError, match=r"strides \[4, 8, 16\].*\[32\]"):
        levels_of(PRIORS, [(4, 4)], [32])


@pytest.mark.slow
def test_eight_large_images_are_masked_a_hundred_times_faster_than_box_by_box():
    priors = AnchorGenerator(strides=[4, 8, 16, 32, 64], ratios=[0.5, 1.0, 2.0], scales=[8])
    scene = scene_of(torch.Generator().manual_seed(0), 8, 20, 800, 1333, exactly=True)
    sizes = sizes_for(priors, 800, 1333)
    levels, mask = levels_of(priors, sizes, [4, 8, 16, 32, 64]), AnchorIoUMask(0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # numpy's loop has one too
    ours, loop = [], []
    for _ in range(3):
        for _ in range(5):
            start = time.perf_counter()
            masks = mask(scene, levels)
            ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = box_by_box(priors, scene, sizes, 0.5, "size")
        loop.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    print(f"masks {1000 * min(ours):.1f} ms, box by box {min(loop):.2f} s, {min(loop) / min(ours):.0f} times")
    assert all((m.numpy() == e).all() for m, e in zip(masks, expected, strict=True))
    assert min(loop) > 100 * min(ours)
