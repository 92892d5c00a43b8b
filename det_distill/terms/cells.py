"""Maps compared where a mask says, whole or as the few cells that are on."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from det_distill.adapters import ConvAdapter
from det_distill.masks.few import few_cells

Level = tuple[Tensor, Tensor, Tensor]  # the student's adapted map, the teacher's, and the mask of their size


def cell_by_cell(adapters: Iterable[Any]) -> bool:
    """Whether adapters can do with some cells of a map."""
    return all(isinstance(one, ConvAdapter) and one.local for one in adapters)


def somewhere(adapters: Iterable[Any], pairs: Iterable[tuple[Tensor, Tensor]], masks: Sequence[Tensor]) -> list[Level]:
    """Each level whole, or as maps of one row with no cell but those that are on, where these are few.

    Args:
        adapters: One a level, all of them `cell_by_cell`.
        pairs: Per level the student's own map and the teacher's.
        masks: Per level (B, H, W), bool.
    """
    found = []
    for adapt, (own, goal), on, cells in zip(adapters, pairs, masks, few_cells(masks), strict=True):
        if cells is None or own.shape[2:] != goal.shape[2:]:  # the loss refuses maps of unequal sizes, and names them
            found.append((adapt(own), goal, on))
            continue
        image, row, column = cells
        rows = adapt.at(own, cells), goal[image, :, row, column]
        one, other = (side.T[None, :, None] for side in rows)  # (1, C_teacher, 1, N)
        found.append((one, other, torch.ones_like(one[:, 0], dtype=torch.bool)))
    return found


def everywhere(compared: Sequence[tuple[Tensor, Tensor]], masks: Sequence[Tensor]) -> list[Level]:
    """Each level whole; a mask of another size is brought to the maps' by nearest cell."""
    found = []
    for (one, goal), on in zip(compared, masks, strict=True):
        same = on.shape[1:] == goal.shape[2:]
        found.append((one, goal, on if same else F.interpolate(on[:, None].float(), goal.shape[2:])[:, 0] > 0))
    return found
