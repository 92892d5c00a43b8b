"""Rectangles and rows of cells, for all boxes of a batch at once."""

import torch
from torch import Tensor

from det_distill.scene import Level, Scene


def paint(image: Tensor, left: Tensor, right: Tensor, batch: int, width: int) -> Tensor:
    """(B, H, W) true on the cells of [left, right) of each row.

    Args:
        image: (N,) which image each stack of rows belongs to.
        left: (N, H) first cell on.
        right: (N, H) first cell off again; nothing is painted where it is not beyond `left`.
    """
    n, height = left.shape
    edges = torch.zeros(batch * height * (width + 1), dtype=torch.int32, device=left.device)
    rows = (image[:, None] * height + torch.arange(height, device=left.device)) * (width + 1)
    one = torch.ones(n * height, dtype=torch.int32, device=left.device)
    edges.index_add_(0, (rows + left).flatten(), one)
    edges.index_add_(0, (rows + torch.maximum(left, right)).flatten(), -one)
    return edges.view(batch, height, width + 1).cumsum(dim=2, dtype=torch.int32)[..., :-1] > 0


def rectangles(image: Tensor, cells: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    """(B, H, W) true on the rectangles `cells` (N, 4): x and y of the first cell on and the first beyond."""
    height, width = size
    limits = (width, height, width, height)
    sides = zip(cells.unbind(dim=1), limits, strict=True)
    x1, y1, x2, y2 = (side.clamp(0, limit).long()[:, None] for side, limit in sides)
    y = torch.arange(height, device=cells.device)
    right = torch.where((y >= y1) & (y < y2), x2, x1)
    return paint(image, x1.expand_as(right), right, batch, width)


def allowed(scene: Scene, level: Level) -> Tensor:
    """(B, H, W) true inside the images and off the ignored boxes (judged at a cell's centre)."""
    batch, (height, width) = len(scene.shapes), level.size
    valid = level.valid(scene)  # (B, 2): columns, rows
    device = valid.device
    inside = (torch.arange(height, device=device) < valid[:, 1:])[:, :, None]
    inside = inside & (torch.arange(width, device=device) < valid[:, :1])[:, None, :]
    boxes, image = scene.flat(scene.ignored)
    if not len(boxes):  # the usual case
        return inside
    centres = level.in_cells(boxes) - 0.5
    cells = torch.cat((centres[:, :2].ceil(), centres[:, 2:].floor() + 1), dim=1)
    return inside & ~rectangles(image, cells, batch, level.size)


def size_level(boxes: Tensor, levels: int, finest_scale: float) -> Tensor:
    """(N,) the level a box of each size belongs to: clamp(floor(log2(sqrt(wh) / finest)), 0, levels - 1).

    Source: DeFeat (ggjy/DeFeat.pytorch); the paper leaves its own rule open.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return (sides.prod(dim=1).sqrt() / finest_scale).log2().floor().clamp(0, levels - 1)
