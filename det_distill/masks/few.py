"""The cells of masks by number, where they are few."""

from collections.abc import Sequence

import torch
from torch import Tensor

Cells = tuple[Tensor, Tensor, Tensor]  # image, row and column of each, (N,), int64
FEW = 0.25  # of all cells: with more, a convolution of the whole map costs less than one of its cells


def few_cells(masks: Sequence[Tensor]) -> list[Cells | None]:
    """The cells that are on of each mask (B, H, W), or None where they are not few.

    The host waits twice for the device: to know how many there are, and to have them. `torch.compile` cannot know, so
    under it no cells are few.
    """
    if torch.compiler.is_compiling():
        return [None] * len(masks)
    counts = torch.stack([on.sum() for on in masks]).tolist()
    places = torch.split(torch.cat([on.flatten() for on in masks]).nonzero().squeeze(1), counts)
    found: list[Cells | None] = []
    begin = 0
    for on, count, place in zip(masks, counts, places, strict=True):
        _, height, width = on.shape
        cell = place - begin
        begin += on.numel()
        few = count <= FEW * on.numel()
        found.append((cell // (height * width), cell // width % height, cell % width) if few else None)
    return found
