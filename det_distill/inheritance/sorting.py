"""Sort a net's channels, the heaviest first, wherever that changes nothing of what the net computes.

A channel weighs what Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023), give it: the
squared norms of all that belongs to it in every layer that writes or reads it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from det_distill.inheritance.channels import Channels, channels_of, dense_layers, probe
from det_distill.modes import evaluating
from det_distill.views.base import View

TINY = torch.finfo(torch.float64).tiny
TOLERANCE = 1e-3  # of the greatest output: how far a sum in another order may be off


@torch.no_grad()
def sort_channels(view: View, channels: Channels | None = None) -> int:
    """Sort the channels of a detector in place.

    Args:
        view: Of the detector.
        channels: Its channels, where they are already known.

    Returns:
        How many kinds of channels were sorted.

    Raises:
        ValueError: A layer does not run where boxes are found, such as a mask head's, so nobody knows what it reads;
            or the detector then computed something else, for a part of it looks at the channels by number.
    """
    channels = channels or channels_of(view)
    layers = dense_layers(view.detector)
    for path in layers:
        if path not in channels.written:
            raise ValueError(
                f"the {view.side}'s '{path}' does not run where boxes are found, so nobody knows whose channels it "
                "reads; use channels='first'"
            )
    ends = [path for path in layers if not channels.free[channels.written[path]].any()]
    with evaluating(view.detector):
        before = _shown(view, ends)
        kinds = torch.unique(channels.kinds[channels.free])
        _reorder(view.detector, channels, _sorted(channels, kinds, weights_of(view.detector, channels)))
        after = _shown(view, ends)
    for path, one, other in zip(ends, before, after, strict=True):
        if not torch.allclose(one, other, rtol=0, atol=TOLERANCE * max(1e-3, float(one.abs().max()))):
            raise ValueError(
                f"sorted by weight, the channels of the {view.side} no longer give what they did at '{path}': a part "
                "of the net looks at them that is no convolution, linear layer or batch norm; use channels='first'"
            )
    return len(kinds)


def weights_of(net: nn.Module, channels: Channels) -> Tensor:
    """(channels,) fp64: how much each weighs among those of its kind, layers counting alike.

    Behind a batch norm its scale stands for the weights that write, whose size the norm undoes.
    """
    normed = torch.zeros_like(channels.free)
    found: list[tuple[Tensor, Tensor, bool]] = []  # squares, whose channel each is, whether a norm undoes them
    for path, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        norm = isinstance(module, _BatchNorm)
        for axis, numbers in channels.along(path, weight.shape):
            normed[numbers] |= norm
            squares = weight.square().transpose(0, axis).reshape(len(numbers), -1).sum(dim=1)
            found.append((squares, numbers, axis == 0 and not norm))
    total = torch.zeros(len(normed), dtype=torch.float64)
    for squares, number, undone in found:
        own = torch.zeros_like(total).index_add(0, number, squares.double().cpu())
        kinds = channels.kinds[torch.unique(number)]
        means = total.new_zeros(int(channels.kinds.max()) + 1).index_add(0, channels.kinds, own)
        means /= torch.bincount(kinds, minlength=len(means)).clamp(min=1)
        share = own / means.clamp(min=TINY)[channels.kinds]
        total += share * ~normed if undone else share
    return total


def _sorted(channels: Channels, kinds: Tensor, weights: Tensor) -> Tensor:
    """(channels,) whose place each takes."""
    taken = torch.arange(len(weights))
    for kind in kinds:
        some = torch.where((channels.kinds == kind) & channels.free)[0]
        taken[some] = some[weights[some].argsort(descending=True, stable=True)]
    return taken


def _reorder(net: nn.Module, channels: Channels, taken: Tensor) -> None:
    for path, module in net.named_modules():
        for held in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            for axis, numbers in channels.along(path, held.shape):
                order = places(taken[numbers], numbers)
                held.copy_(held.index_select(axis, order.to(held.device)))


def places(wanted: Tensor, among: Tensor) -> Tensor:
    """Where some numbers stand among the same in another order; the second of a number is the second of it there.

    Example:
        >>> places(torch.tensor([7, 5, 7]), torch.tensor([5, 7, 7]))
        tensor([1, 0, 2])
    """
    found = torch.empty_like(wanted)
    found[wanted.argsort(stable=True)] = among.argsort(stable=True)
    return found


def _shown(view: View, paths: Sequence[str]) -> list[Tensor]:
    """What some layers give, all their calls in one row."""
    noise, rois = probe(view.detector)
    sight = view.run(noise, paths, rois)
    return [torch.cat([one.flatten() for one in sight[path]]) for path in paths]
