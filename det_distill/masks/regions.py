"""Cells of boxes, points inside boxes, and all cells."""

from collections.abc import Sequence

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from det_distill.masks.painting import allowed, rectangles, size_level
from det_distill.refusals import at_least, choice
from det_distill.scene import Level, Scene


@TASK_UTILS.register_module()
class GtBoxMask:
    """Cells whose footprint overlaps a ground-truth box: the region variant the paper compares with.

    Args:
        level_assignment: "size" as in `AnchorIoUMask`, or "every" level.
        finest_scale: As in `AnchorIoUMask`.
    """

    needs_anchors = False

    def __init__(self, level_assignment: str = "size", finest_scale: float = 56.0) -> None:
        self.level_assignment = choice("level_assignment", level_assignment, ("size", "every"))
        self.finest_scale = finest_scale

    def __call__(self, scene: Scene, levels: Sequence[Level]) -> list[Tensor]:
        """One bool (B, H, W) per level."""
        boxes, image = scene.flat(scene.boxes)
        real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        home = size_level(boxes, len(levels), self.finest_scale)
        masks = []
        for index, level in enumerate(levels):
            cells = level.in_cells(boxes)
            cells = torch.cat((cells[:, :2].floor(), cells[:, 2:].ceil()), dim=1)
            marks = real & (home == index) if self.level_assignment == "size" else real
            cells = cells * marks[:, None]  # an empty rectangle marks nothing
            masks.append(rectangles(image, cells, len(scene.shapes), level.size) & allowed(scene, level))
        return masks


@TASK_UTILS.register_module()
class PointMask:
    """Cells whose point lies in a box, on the level that regresses so far: an anchor-free head's positives (FCOS).

    A cell's point is its centre. It is on if it lies inside a box whose farthest side is from half of `reach` to
    `reach` cells away; the finest level takes all nearer ones, the coarsest all farther ones.

    Args:
        reach: Cells; FCOS regresses up to 64 pixels at stride 8, 128 at stride 16.

    Source:
        Tian et al., ICCV 2019; MMDetection's `FCOSHead` without centre sampling.
    """

    needs_anchors = False

    def __init__(self, reach: float = 8.0) -> None:
        self.reach = at_least("reach", reach, 1)

    def __call__(self, scene: Scene, levels: Sequence[Level]) -> list[Tensor]:
        """One bool (B, H, W) per level."""
        boxes, image = scene.flat(scene.boxes)
        masks = []
        for index, level in enumerate(levels):
            most = torch.inf if index == len(levels) - 1 else self.reach * level.stride[0]
            least = 0 if index == 0 else self.reach / 2 * level.stride[0]
            x, y = (
                (torch.arange(cells, device=boxes.device) + 0.5) * stride
                for cells, stride in zip((level.size[1], level.size[0]), level.stride, strict=True)
            )
            near_x, far_x = _sides(x, boxes[:, 0], boxes[:, 2])  # (N, W)
            near_y, far_y = _sides(y, boxes[:, 1], boxes[:, 3])  # (N, H)
            far = torch.maximum(far_x[:, None], far_y[:, :, None])  # (N, H, W)
            inside = (near_x[:, None] > 0) & (near_y[:, :, None] > 0)
            on = inside & (far >= least) & (far <= most)
            counts = torch.zeros(len(scene.shapes), *level.size, dtype=torch.int32, device=boxes.device)
            masks.append((counts.index_add_(0, image, on.int()) > 0) & allowed(scene, level))
        return masks


def _sides(points: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """(N, P) from each point to the nearer and the farther end of N intervals; the nearer is below 0 outside."""
    one, other = points - start[:, None], end[:, None] - points
    return torch.minimum(one, other), torch.maximum(one, other)


@TASK_UTILS.register_module()
class FullMask:
    """Every cell inside the images and off the ignored areas."""

    needs_anchors = False

    def __call__(self, scene: Scene, levels: Sequence[Level]) -> list[Tensor]:
        """One bool (B, H, W) per level."""
        return [allowed(scene, level) for level in levels]
