"""mmcv's NMS family over torchvision, judged box by box in plain Python."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.compat import kernels
from det_distill.compat.mmcv_ext import compiled_mmcv

# isort: split
from mmcv import ops  # after det_distill, which serves the kernels it asks for

pytestmark = pytest.mark.skipif(compiled_mmcv(), reason="a compiled mmcv is installed; its kernels are not ours")

Box = list[float]


def overlap(a: Box, b: Box, offset: int) -> float:
    """IoU of two boxes, sides in plain floats; two empty boxes do not overlap."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = width * height if width > 0 and height > 0 else 0.0
    union = sum((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)) - inter
    return inter / union if union else 0.0


def greedy(boxes: list[Box], scores: list[float], threshold: float, offset: int) -> list[int]:
    """Hard NMS by its definition: keep a box unless a better kept one overlaps it by more than the threshold."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[k], boxes[i], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def bodla(
    boxes: list[Box], scores: list[float], threshold: float, sigma: float, floor: float, method: str, offset: int
) -> list[tuple[int, float]]:
    """Figure 2 of Bodla et al. (arXiv:1704.04503), with B and S as sets: (index, score) in order of picking."""
    B, S, D = set(range(len(boxes))), dict(enumerate(scores)), []
    while B:
        m = max(sorted(B), key=S.__getitem__)
        D.append((m, S[m]))
        B.remove(m)
        for i in sorted(B):
            iou = overlap(boxes[m], boxes[i], offset)
            if method == "gaussian":
                S[i] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                S[i] *= 1 - iou if method == "linear" else 0
            if S[i] < floor:
                B.remove(i)
    return D


def crowd(seed: int, count: int = 30) -> tuple[Tensor, Tensor]:
    """Overlapping float64 boxes with distinct scores."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g, dtype=torch.float64) * 20
    side = torch.rand(count, 2, generator=g, dtype=torch.float64) * 20 + 2
    scores = (torch.randperm(count, generator=g).double() + 1) / (count + 1)
    return torch.cat((corner, corner + side), dim=1), scores


def on_a_grid(draw: st.DrawFn) -> tuple[list[Box], list[float]]:
    count = draw(st.integers(0, 8))
    cell, side = st.integers(0, 6), st.integers(0, 5)  # 0: boxes without area are tried too
    corners = [(draw(cell), draw(cell), draw(side), draw(side)) for _ in range(count)]
    ranks = draw(st.permutations(range(count)))
    return [[float(v) for v in (x, y, x + w, y + h)] for x, y, w, h in corners], [(r + 1) / 10 for r in ranks]


grids = st.composite(on_a_grid)()
thresholds = st.sampled_from([0.15, 0.31, 0.47, 0.52, 0.77])  # no IoU of small whole-number boxes lies on these


def tensors(boxes: list[Box], scores: list[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), torch.tensor(scores, dtype=torch.float64)


@given(grid=grids, threshold=thresholds, offset=st.sampled_from([0, 1]))
@settings(max_examples=150, deadline=None)
def test_nms_keeps_what_the_definition_keeps(
    grid: tuple[list[Box], list[float]], threshold: float, offset: int
) -> None:
    boxes, scores = tensors(*grid)
    dets, kept = ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == greedy(*grid, threshold, offset)
    assert dets.equal(torch.cat((boxes, scores[:, None]), dim=1)[kept])


def test_offset_one_counts_pixels() -> None:
    # [0, 0, 1, 1] and [0, 0, 1, 2]: in lengths 1 / 2 = 0.50, in pixels 4 / 6 = 0.67.
    boxes, scores = tensors([[0, 0, 1, 1], [0, 0, 1, 2]], [0.9, 0.8])
    assert ops.nms(boxes, scores, 0.6, offset=0)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.6, offset=1)[1].tolist() == [0]
    assert kernels.nms(boxes, scores, 0.6).tolist() == [0, 1]  # lengths, unless told otherwise


def test_nms_honours_score_threshold_and_max_num() -> None:
    boxes, scores = crowd(1)
    expected = [i for i in greedy(boxes.tolist(), scores.tolist(), 0.4, 0) if scores[i] > 0.3][:4]
    assert len(expected) == 4
    assert ops.nms(boxes, scores, 0.4, score_threshold=0.3, max_num=4)[1].tolist() == expected


def test_nms_of_numpy_arrays_is_numpy() -> None:
    boxes, scores = crowd(2)
    dets, kept = ops.nms(boxes.float().numpy(), scores.float().numpy(), 0.5)
    assert isinstance(dets, np.ndarray)
    assert kept.tolist() == greedy(boxes.tolist(), scores.tolist(), 0.5, 0)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("call", [ops.nms, ops.soft_nms], ids=["nms", "soft_nms"])
def test_none_and_one_box_pass_through(call: object, count: int) -> None:
    dets, kept = call(torch.ones(count, 4), torch.ones(count), 0.5)  # type: ignore[operator]
    assert dets.shape == (count, 5)
    assert kept.tolist() == list(range(count))
    assert kept.dtype == torch.long


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@given(grid=grids, threshold=thresholds, offset=st.sampled_from([0, 1]), sigma=st.sampled_from([0.3, 0.5, 2.0]))
@settings(max_examples=60, deadline=None)
def test_soft_nms_equals_the_published_algorithm(
    method: str, grid: tuple[list[Box], list[float]], threshold: float, offset: int, sigma: float
) -> None:
    floor = 0.123  # above the lowest scores: some boxes are dropped undecayed
    expected = bodla(*grid, threshold, sigma, floor, method, offset)
    picked = [score for _, score in expected]
    assume(all(abs(a - b) > 1e-9 for a, b in itertools.pairwise(picked)))  # ties have no order

    boxes, scores = tensors(*grid)
    before = scores.clone()
    dets, kept = ops.soft_nms(boxes, scores, threshold, sigma, floor, method, offset)

    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[:, 4].tolist(), picked, rtol=1e-12, atol=0)
    assert dets[:, :4].equal(boxes[kept])
    assert scores.equal(before)


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_decays_a_crowd_as_published(method: str) -> None:
    boxes, scores = crowd(3)
    expected = bodla(boxes.tolist(), scores.tolist(), 0.3, 0.5, 1e-3, method, 0)
    dets, kept = ops.soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method)
    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[:, 4].tolist(), [score for _, score in expected], rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_boxes_without_area_keep_their_scores_in_soft_nms(method: str) -> None:
    boxes = torch.tensor([[3.0, 1, 3, 1], [3, 1, 3, 1], [4, 3, 5, 3]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    dets, kept = ops.soft_nms(boxes, scores, 0.5, method=method)
    assert kept.tolist() == [0, 1, 2]
    assert dets[:, 4].equal(scores)


@given(grid=grids, threshold=thresholds)
@settings(max_examples=100, deadline=None)
def test_nms_match_groups_each_kept_box_with_those_it_suppresses(
    grid: tuple[list[Box], list[float]], threshold: float
) -> None:
    def groups() -> Iterator[list[int]]:
        free = sorted(range(len(grid[0])), key=lambda i: -grid[1][i])
        while free:
            group = [free[0], *(i for i in free[1:] if overlap(grid[0][free[0]], grid[0][i], 0) >= threshold)]
            free = [i for i in free if i not in group]
            yield group

    boxes, scores = tensors(*grid)
    found = ops.nms_match(torch.cat((boxes, scores[:, None]), dim=1), threshold)
    assert [group.tolist() for group in found] == list(groups())


def test_nms_match_groups_boxes_that_overlap_by_just_the_threshold() -> None:
    both = torch.tensor([[0.0, 0, 2, 1, 0.9], [0, 0, 1, 1, 0.8]])  # IoU 1 / 2
    assert [group.tolist() for group in ops.nms_match(both, 0.5)] == [[0, 1]]
    assert [group.tolist() for group in ops.nms_match(both, 0.5 + 1e-6)] == [[0], [1]]


@pytest.mark.parametrize(("method", "decayed"), [("naive", 0), ("linear", 0.4)])
def test_soft_nms_decays_a_box_that_overlaps_by_just_the_threshold(method: str, decayed: float) -> None:
    boxes, scores = tensors([[0, 0, 2, 1], [0, 0, 1, 1]], [0.9, 0.8])  # IoU 1 / 2
    dets, _ = ops.soft_nms(boxes, scores, 0.5, min_score=0, method=method)
    assert dets[:, 4].tolist() == pytest.approx([0.9, decayed])


def test_soft_nms_keeps_a_box_of_just_the_lowest_score() -> None:
    boxes, scores = tensors([[0, 0, 2, 1], [4, 4, 6, 6]], [0.75, 0.5])
    assert ops.soft_nms(boxes, scores, 0.5, min_score=0.5)[1].tolist() == [0, 1]
    assert ops.soft_nms(boxes, scores, 0.5, min_score=0.5 + 1e-6)[1].tolist() == [0]


def test_nms_match_takes_the_first_of_equal_scores_first() -> None:
    apart = torch.tensor([[4.0 * i, 0, 4 * i + 2, 2, 0.5] for i in range(100)])
    assert [group.tolist() for group in ops.nms_match(apart, 0.5)] == [[i] for i in range(100)]


@pytest.mark.parametrize(
    ("agnostic", "split_thr"),
    [(False, 10_000), (False, 5), (True, 10_000)],
    ids=["one call", "split by class", "class-agnostic"],
)
def test_batched_nms_suppresses_within_a_class_only(agnostic: bool, split_thr: int) -> None:
    boxes, scores = crowd(4)
    classes = torch.arange(len(boxes)) % 3
    members = [list(range(len(boxes)))] if agnostic else [list(range(c, len(boxes), 3)) for c in range(3)]
    expected: list[int] = []
    for own in members:
        kept = greedy(boxes[own].tolist(), scores[own].tolist(), 0.3, 0)
        expected += [own[i] for i in kept]
    expected.sort(key=lambda i: -scores[i])

    cfg = {"type": "nms", "iou_threshold": 0.3, "split_thr": split_thr}
    dets, kept = ops.batched_nms(boxes, scores, classes, cfg, class_agnostic=agnostic)

    assert kept.tolist() == expected
    assert dets.equal(torch.cat((boxes, scores[:, None]), dim=1)[kept])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_fp32_and_cast_back(dtype: torch.dtype) -> None:
    boxes, scores = (t.to(dtype) for t in crowd(5))
    dets, kept = ops.nms(boxes, scores, 0.4)
    assert kept.equal(ops.nms(boxes.float(), scores.float(), 0.4)[1])
    assert dets.dtype == dtype

    for method in ("naive", "linear", "gaussian"):
        soft, order = ops.soft_nms(boxes, scores, 0.3, method=method)
        wide, wide_order = ops.soft_nms(boxes.float(), scores.float(), 0.3, method=method)
        assert soft.dtype == dtype
        assert order.equal(wide_order)
        assert soft.equal(wide.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_nms_match_of_half_precision_is_computed_in_fp32(dtype: torch.dtype) -> None:
    boxes, scores = crowd(5, count=200)  # enough that some IoU rounds over the threshold in half precision
    both = torch.cat((boxes, scores[:, None]), dim=1).to(dtype)
    assert [g.tolist() for g in ops.nms_match(both, 0.4)] == [g.tolist() for g in ops.nms_match(both.float(), 0.4)]
