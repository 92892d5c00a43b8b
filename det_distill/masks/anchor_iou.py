"""Cells near objects, by the overlap of anchors with boxes.

Why: the published anchor-IoU mask (Wang et al., CVPR 2019, arXiv:1906.03609) builds an IoU map of every
anchor for every box. An anchor of one shape slides over a grid, so its overlap with a box is the
product of two one-dimensional overlaps, and on each row the cells over a threshold form one interval with
ends in closed form. Painting the intervals all at once gives the same mask without the maps, for all
boxes of a batch together. The cells depend on boxes and anchors only, never on features.
"""

from collections.abc import Sequence

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from det_distill.masks.painting import allowed, paint, size_level
from det_distill.masks.regions import FullMask
from det_distill.refusals import choice
from det_distill.scene import Level, Scene

ASSIGNMENTS = ("size", "joint", "every")
TIE = 1e-9  # an overlap must exceed its threshold by this share: exact ties are off, however rounded


def _overlaps(boxes: Tensor, level: Level, axis: int, valid: Tensor) -> Tensor:
    """(N, A, cells) length of the overlap of each box with each anchor along x (axis 0) or y (axis 1).

    Zero on cells at or beyond `valid` (N,): anchors of the padding are no anchors.
    """
    cell = torch.arange(level.size[1 - axis], device=boxes.device)
    anchors = level.anchors.to(boxes, non_blocking=True)  # (A, 4)
    start = anchors[:, axis, None] + cell * level.stride[axis]  # (A, cells)
    end = anchors[:, axis + 2, None] + cell * level.stride[axis]
    box = boxes[:, :, None, None]
    overlap = torch.minimum(end, box[:, axis + 2]) - torch.maximum(start, box[:, axis])
    return overlap.clamp(min=0) * (cell < valid[:, None, None])


class _Meeting:
    """How every box of a batch meets the anchors of one level."""

    def __init__(self, boxes: Tensor, image: Tensor, scene: Scene, level: Level) -> None:
        self.boxes, self.stride = boxes, level.stride[0]
        self.anchors = level.anchors.to(boxes, non_blocking=True)
        self.valid = level.valid(scene)[image]
        self.y = _overlaps(boxes, level, 1, self.valid[:, 1])
        area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
        self.areas = area[:, None] + (self.anchors[:, 2:] - self.anchors[:, :2]).prod(dim=1)  # (N, A), of both together
        x = _overlaps(boxes, level, 0, self.valid[:, 0])
        inter = x.amax(dim=2) * self.y.amax(dim=2)
        self.best = (inter / (self.areas - inter)).amax(dim=1)  # (N,), the best IoU of each box with any anchor

    def intervals(self, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Per box, anchor and row, the cells whose IoU exceeds (N,) `threshold`: (N, A, H) first, (N, A, H) beyond.

        IoU = I / (S - I) > F exactly where the overlap I = x * y > F S / (1 + F). On a row y is fixed, and x > c
        says: anchor and box are both wider than c, the anchor ends beyond the box's start by more than c, and
        starts before the box's end by more than c.
        """
        f = threshold[:, None]
        least = f * self.areas / (1 + f) * (1 + TIE)
        c = torch.where(self.y > 0, least[..., None] / self.y, torch.inf)
        x1, x2 = self.boxes[:, 0, None, None], self.boxes[:, 2, None, None]
        a1, a2 = self.anchors[:, 0, None], self.anchors[:, 2, None]
        wide = (a2 - a1 > c) & (x2 - x1 > c)
        end = self.valid[:, :1, None]
        left = (((c + x1 - a2) / self.stride).floor() + 1).clamp(min=0).minimum(end)
        right = ((x2 - a1 - c) / self.stride).ceil().clamp(min=0).minimum(end)
        return left.long(), torch.where(wide, right, left).long()


@TASK_UTILS.register_module()
class AnchorIoUMask:
    """Cells where some anchor overlaps a box by more than `psi` times the box's best anchor (Wang et al., 2019).

    A cell is on if any of its anchors has IoU > psi * max IoU, strictly, for any box; boxes of zero area
    mark nothing, and no cell of the padding or of an ignored area is on.

    Args:
        psi: 0 imitates everywhere, 1 nowhere; the paper's best is near 0.5.
        level_assignment: On a pyramid, "size" lets a box mark only the level of its size (best anchor of that
            level), "joint" takes the best anchor over all levels, "every" one best per level (each box then
            fires on every level, which users report to be worse than no distillation).
        finest_scale: sqrt(area) in pixels where "size" passes from the first level to the second, halved.

    Raises:
        ValueError: On a psi outside [0, 1] or an unknown assignment.
    """

    needs_anchors = True

    def __init__(self, psi: float = 0.5, level_assignment: str = "size", finest_scale: float = 56.0) -> None:
        if not 0 <= psi <= 1:
            raise ValueError(f"psi={psi} lies outside [0, 1]; the paper uses 0.5")
        self.psi, self.finest_scale = psi, finest_scale
        self.level_assignment = choice("level_assignment", level_assignment, ASSIGNMENTS)

    def __call__(self, scene: Scene, levels: Sequence[Level]) -> list[Tensor]:
        """One bool (B, H, W) per level."""
        if self.psi == 0:  # "IoU > 0" would leave out what no anchor touches; the paper means every cell
            return FullMask()(scene, levels)
        boxes, image = scene.flat(scene.boxes)
        meetings = [_Meeting(boxes, image, scene, level) for level in levels]
        best = torch.stack([meeting.best for meeting in meetings])  # (L, N)
        if self.level_assignment == "joint":
            best = best.amax(dim=0).expand_as(best)
        threshold = self.psi * best
        if self.level_assignment == "size":
            index = torch.arange(len(levels), device=best.device)[:, None]
            mine = size_level(boxes, len(levels), self.finest_scale) == index
            threshold = torch.where(mine, threshold, torch.inf)
        masks = []
        for level, meeting, limit in zip(levels, meetings, threshold, strict=True):
            left, right = meeting.intervals(limit.clamp(max=2))  # no IoU exceeds 2, and infinity over infinity is NaN
            owner = image[:, None].expand(left.shape[:2])
            painted = paint(owner.flatten(), left.flatten(0, 1), right.flatten(0, 1), len(scene.shapes), level.size[1])
            masks.append(painted & allowed(scene, level))
        return masks
