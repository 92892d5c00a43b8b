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

from det_distill.masks.painting import off_ignored, paint, size_level
from det_distill.masks.regions import FullMask
from det_distill.refusals import choice
from det_distill.scene import Level, Scene, sent

ASSIGNMENTS = ("size", "joint", "every")
TIE = 1e-9  # an overlap must exceed its threshold by this share: exact ties are off, however rounded


class _Meetings:
    """How boxes meet the anchors of levels, M boxes each with one level.

    Args:
        boxes: (M, 4), fp64.
        image: (M,) the image of each.
        level: (M,) which of the levels each meets.
        scene: The batch.
        levels: Those of the maps.
    """

    def __init__(self, boxes: Tensor, image: Tensor, level: Tensor, scene: Scene, levels: Sequence[Level]) -> None:
        most = max(len(one.anchors) for one in levels)  # where a level has fewer, its first is there more than once
        anchors = [torch.cat((one.anchors, one.anchors[:1].expand(most - len(one.anchors), 4))) for one in levels]
        self.anchors = torch.stack(anchors).to(boxes, non_blocking=True)[level]  # (M, A, 4)
        self.stride = sent([one.stride for one in levels], boxes.device, boxes.dtype)[level]  # (M, 2)
        self.valid = torch.stack([one.valid(scene) for one in levels])[level, image]  # (M, 2) columns and rows
        self.boxes, self.rows = boxes[:, None], max(one.size[0] for one in levels)
        area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
        self.areas = area[:, None] + (self.anchors[..., 2:] - self.anchors[..., :2]).prod(dim=2)  # (M, A), of both

    def _overlaps(self, axis: int, cell: Tensor) -> Tensor:
        """(M, A, cells) common length of box and anchor along x (axis 0) or y (axis 1), where `cell` is."""
        shift = cell * self.stride[:, axis, None, None]
        start, end = (self.anchors[..., side, None] + shift for side in (axis, axis + 2))
        least, beyond = (self.boxes[..., side, None] for side in (axis, axis + 2))
        return (torch.minimum(end, beyond) - torch.maximum(start, least)).clamp(min=0)

    def _longest(self, axis: int) -> Tensor:
        """(M, A) the most that any cell has: an overlap grows until the centres meet, and then falls as it grew."""
        sides = (
            self.boxes[..., axis] + self.boxes[..., axis + 2],
            self.anchors[..., axis] + self.anchors[..., axis + 2],
        )
        meet = (sides[0] - sides[1]) / 2 / self.stride[:, axis, None]
        cells = torch.stack((meet.floor(), meet.ceil()), dim=2).clamp(min=0)
        return self._overlaps(axis, cells.minimum(self.valid[:, axis, None, None] - 1)).amax(dim=2)

    def best(self) -> Tensor:
        """(M,) the best IoU of each box with any anchor of its level, off the padding."""
        inter = self._longest(0) * self._longest(1)
        return (inter / (self.areas - inter)).amax(dim=1)

    def intervals(self, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Per box, anchor and row, the cells whose IoU exceeds (M,) `threshold`: (M, A, R) first, (M, A, R) beyond.

        IoU = I / (S - I) > F exactly where the overlap I = x * y > F S / (1 + F). On a row y is fixed, and x > c
        says: anchor and box are both wider than c, the anchor ends beyond the box's start by more than c, and
        starts before the box's end by more than c. Rows and cells of the padding have none.
        """
        f = threshold[:, None]
        least = f * self.areas / (1 + f) * (1 + TIE)
        row = torch.arange(self.rows, device=threshold.device)
        y = self._overlaps(1, row) * (row < self.valid[:, 1, None, None])
        c = torch.where(y > 0, least[..., None] / y, torch.inf)
        x1, x2, a1, a2 = (one[..., side, None] for one in (self.boxes, self.anchors) for side in (0, 2))
        end, stride = self.valid[:, 0, None, None], self.stride[:, 0, None, None]
        wide = torch.minimum(a2 - a1, x2 - x1) > c
        left = (((c + x1 - a2) / stride).floor() + 1).clamp(min=0).minimum(end)
        right = ((x2 - a1 - c) / stride).ceil().clamp(min=0).minimum(end)
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
        if self.level_assignment == "size":
            level = size_level(boxes, len(levels), self.finest_scale).long()
        else:
            level = torch.arange(len(levels), device=boxes.device).repeat(len(boxes))
            boxes, image = (one.repeat_interleave(len(levels), dim=0) for one in (boxes, image))
        meetings = _Meetings(boxes, image, level, scene, levels)
        best = meetings.best()
        if self.level_assignment == "joint":
            best = best.view(-1, len(levels)).amax(dim=1).repeat_interleave(len(levels))
        left, right = meetings.intervals(self.psi * best)
        image, level = (one.repeat_interleave(left.shape[1]) for one in (image, level))
        left, right = (one.flatten(0, 1) for one in (left, right))
        painted = paint(image, level, left, right, len(scene.shapes), [one.size for one in levels])
        return [off_ignored(on, scene, one) for on, one in zip(painted, levels, strict=True)]
