"""Rectangles and rows of cells, for all boxes of a batch at once."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from det_distill.scene import Level, Scene, sent


def paint(
    image: Tensor, level: Tensor, left: Tensor, right: Tensor, batch: int, sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Per level (B, H, W), true on the cells of [left, right) of each row.

    All levels lie one behind the other in one strip of rows, each a cell wider than its map: what a row switches on
    is off again at its end, so that one running sum does for all.

    Args:
        image: (N,) which image each stack of rows belongs to.
        level: (N,) which level.
        left: (N, R) first cell on of as many rows as the highest map has; those beyond a map's height must be empty.
        right: (N, R) first cell off again; nothing is painted where it is not beyond `left`.
        batch: B.
        sizes: (H, W) of each level.
    """
    lengths = [batch * height * (width + 1) for height, width in sizes]
    starts = [0, *accumulate(lengths)]
    known = [(start, *size) for start, size in zip(starts[:-1], sizes, strict=True)]
    start, height, width = sent(known, left.device)[level].unbind(dim=1)
    row = torch.arange(left.shape[1], device=left.device).minimum(height[:, None] - 1)
    place = start[:, None] + ((image * height)[:, None] + row) * (width[:, None] + 1)
    edges = torch.zeros(starts[-1], dtype=torch.int32, device=left.device)
    one = torch.ones(left.numel(), dtype=torch.int32, device=left.device)
    edges.index_add_(0, (place + left).flatten(), one)
    edges.index_add_(0, (place + torch.maximum(left, right)).flatten(), -one)
    painted = torch.split(edges.cumsum(dim=0, dtype=torch.int32) > 0, lengths)
    return [row.view(batch, size[0], -1)[..., :-1] for row, size in zip(painted, sizes, strict=True)]


def rectangles(image: Tensor, cells: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    """(B, H, W) true on the rectangles `cells` (N, 4): x and y of the first cell on and the first beyond."""
    height, width = size
    limits = (width, height, width, height)
    sides = zip(cells.unbind(dim=1), limits, strict=True)
    x1, y1, x2, y2 = (side.clamp(0, limit).long()[:, None] for side, limit in sides)
    y = torch.arange(height, device=cells.device)
    right = torch.where((y >= y1) & (y < y2), x2, x1)
    return paint(image, torch.zeros_like(image), x1.expand_as(right), right, batch, [size])[0]


def allowed(scene: Scene, level: Level) -> Tensor:
    """(B, H, W) true inside the images and off the ignored boxes (judged at a cell's centre)."""
    height, width = level.size
    valid = level.valid(scene)  # (B, 2): columns, rows
    device = valid.device
    inside = (torch.arange(height, device=device) < valid[:, 1:])[:, :, None]
    inside = inside & (torch.arange(width, device=device) < valid[:, :1])[:, None, :]
    return off_ignored(inside, scene, level)


def off_ignored(on: Tensor, scene: Scene, level: Level) -> Tensor:
    """(B, H, W) `on` without the ignored boxes (judged at a cell's centre)."""
    boxes, image = scene.flat(scene.ignored)
    if not len(boxes):  # the usual case
        return on
    centres = level.in_cells(boxes) - 0.5
    cells = torch.cat((centres[:, :2].ceil(), centres[:, 2:].floor() + 1), dim=1)
    return on & ~rectangles(image, cells, len(scene.shapes), level.size)


def size_level(boxes: Tensor, levels: int, finest_scale: float) -> Tensor:
    """(N,) the level a box of each size belongs to: clamp(floor(log2(sqrt(wh) / finest)), 0, levels - 1).

    Source: DeFeat (ggjy/DeFeat.pytorch); the paper leaves its own rule open.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return (sides.prod(dim=1).sqrt() / finest_scale).log2().floor().clamp(0, levels - 1)
