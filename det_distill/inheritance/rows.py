"""A layer as the linear map it is: its weights as a matrix, its windows as rows."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Layer = nn.Conv2d | nn.Linear


def is_dense(layer: nn.Module) -> bool:
    """Whether each output of a layer reads every channel: a linear layer, or a convolution of one group."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def is_plain(layer: nn.Module) -> bool:
    """Whether a dense layer is one product of its weight with each window of its input, padded by zeros."""
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return False
    return is_dense(layer)


def matrix_of(layer: Layer) -> Tensor:
    """(O, k) fp64: the weights, and behind them the bias where there is one."""
    weights = layer.weight.detach().flatten(1).double()
    if layer.bias is not None:
        weights = torch.cat((weights, layer.bias.detach().double()[:, None]), dim=1)
    return weights


@torch.no_grad()
def set_matrix(layer: Layer, matrix: Tensor) -> None:
    """Write what `matrix_of` reads."""
    if layer.bias is not None:
        layer.bias.copy_(matrix[:, -1])
        matrix = matrix[:, :-1]
    layer.weight.copy_(matrix.reshape(layer.weight.shape))


@dataclass(frozen=True)
class Wanted:
    """What a layer should give, in some of the cells of one call.

    Attributes:
        cells: (B, h, w) of a convolution, (N, ...) of a linear layer: all there are.
        places: Indices into `cells`, (n,) an axis.
        rows: (n, O).
    """

    cells: tuple[int, ...]
    places: tuple[Tensor, ...]
    rows: Tensor


def wanted_of(layer: Layer, given: Tensor, channels: Tensor, most: int) -> Wanted:
    """Of what another layer gave, some channels, in so many cells at random.

    Args:
        layer: Of O outputs, which shall give the same.
        given: (B, O or more, h, w) of a convolution, (..., O or more) of a linear layer.
        channels: (O,) their numbers.
        most: How many cells at the most.
    """
    by_cell = given.movedim(1, -1) if isinstance(layer, nn.Conv2d) else given
    cells = by_cell.shape[:-1]
    count = cells.numel()
    chosen = torch.arange(count) if count <= most else torch.randint(count, (most,))
    places = torch.unravel_index(chosen.to(given.device), cells)
    return Wanted(tuple(cells), tuple(places), by_cell[places][:, channels.to(given.device)])


def rows_at(layer: Layer, given: Tensor, wanted: Wanted) -> Tensor:
    """(n, k) fp64: what the layer multiplies its matrix with in the wanted cells.

    Args:
        layer: A plain layer of k weights an output, its bias among them.
        given: Its input, (B, C, H, W) or (..., C).
        wanted: Says which cells.

    Raises:
        ValueError: Of that input the layer gives other cells.
    """
    windows = _windows(layer, given) if isinstance(layer, nn.Conv2d) else given
    cells = tuple(windows.shape[: len(wanted.cells)])
    if cells != wanted.cells:
        raise ValueError(f"it has cells {cells} on the student, {wanted.cells} on the teacher")
    rows = windows[wanted.places].flatten(1).double()
    return rows if layer.bias is None else torch.cat((rows, rows.new_ones(len(rows), 1)), dim=1)


def _windows(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """(B, h, w, C, kh, kw) what each cell of a convolution sees; a view of the padded maps."""
    (ph, pw), (dh, dw) = cast(tuple[int, int], layer.padding), layer.dilation  # a plain layer's are numbers
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    padded = pad(maps, (pw, pw, ph, ph))
    windows = padded.unfold(2, dh * (kh - 1) + 1, sh).unfold(3, dw * (kw - 1) + 1, sw)[..., ::dh, ::dw]
    return windows.permute(0, 2, 3, 1, 4, 5)
