"""Greedy, soft and grouping non-maximum suppression."""

import torch
import torchvision
from torch import Tensor

from det_distill.compat.kernels.precision import wide


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices kept, best score first. `offset=1` counts pixels: a box of x1 == x2 is one wide."""
    boxes, scores = wide(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    keep: Tensor = torchvision.ops.nms(boxes, scores, iou_threshold)
    return keep


def _ious(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of one (4,) box with (N, 4) boxes; two boxes without area overlap by 0, not by 0/0."""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0)
    inter = sides.prod(dim=1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    return (inter / (area + areas - inter)).nan_to_num(nan=0.0)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017); methods 0 hard, 1 linear, 2 Gaussian.

    Fills the first rows of `dets` (N, 5) with boxes and decayed scores in the order of picking and
    returns the (M,) indices of those rows. A box decayed below `min_score` is dropped.
    """
    boxes, scores = wide(boxes, scores)
    scores, left = scores.clone(), torch.arange(len(scores))
    kept: list[Tensor] = []
    while len(left):
        best = left[scores[left].argmax()]
        dets[len(kept)] = torch.cat((boxes[best], scores[best, None]))
        kept.append(best)
        left = left[left != best]
        iou = _ious(boxes[best], boxes[left], offset)
        near = iou >= iou_threshold
        decay = {0: (~near).to(iou), 1: torch.where(near, 1 - iou, torch.ones_like(iou)), 2: (-(iou**2) / sigma).exp()}
        scores[left] = scores[left] * decay[method]
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy groups of (N, 5) detections: each list starts with the kept one, then those it suppresses."""
    (dets,) = wide(dets)
    groups, left = [], dets[:, 4].argsort(descending=True, stable=True)
    while len(left):
        best, rest = left[0], left[1:]
        near = _ious(dets[best, :4], dets[rest, :4], 0) >= iou_threshold
        groups.append([int(best), *rest[near].tolist()])
        left = rest[~near]
    return groups
