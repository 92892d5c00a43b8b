"""Which channels of a net's layers are one, for sums, shared layers or crops join them.

A walk through autograd's graph of one forward pass tells.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from det_distill.inheritance.rows import is_dense
from det_distill.inheritance.walk import LOST, Call, Walk, scales
from det_distill.modes import evaluating
from det_distill.views.base import DRY_RUN, View
from det_distill.views.taps import Recorder


@dataclass(frozen=True)
class Channels:
    """The channels of a net, numbered: what is summed up, or leaves the same layer, is one.

    Attributes:
        written: By path, (O,) the channel that each output of a layer is.
        read: By path, (I,) the channel that each input of a layer is, of maps laid flat or side by side too, or that
            each scale of a norm or depthwise convolution belongs to. Not of images.
        kinds: (channels,) equal where the same layers write them.
        free: (channels,) whether only dense layers read them, behind batch norms and depthwise convolutions or not:
            then those of a kind may change places.
        cells: By path of a layer that gives maps, H and W of its first one, of an image of `probe`'s.
    """

    written: dict[str, Tensor]
    read: dict[str, Tensor]
    kinds: Tensor
    free: Tensor
    cells: dict[str, tuple[int, ...]]

    def along(self, path: str, shape: Sequence[int]) -> list[tuple[int, Tensor]]:
        """Of a weight of a layer: each axis that goes along channels, and whose channel each place on it is."""
        sides = [side[path] for side in (self.written, self.read) if path in side]  # of a norm there is one
        pairs = zip(sides, shape, strict=False)  # a bias has one axis
        return [(axis, side) for axis, (side, size) in enumerate(pairs) if size == len(side)]


def probe(net: nn.Module) -> tuple[Tensor, Tensor]:
    """(1, 3, H, W) noise and (2, 5) boxes on it: an input for any detector."""
    device = next(net.parameters()).device
    noise = torch.randn(1, 3, DRY_RUN, DRY_RUN, generator=torch.Generator().manual_seed(0)).to(device)
    return noise, torch.tensor([[0.0, 32, 32, 160, 160], [0, 8, 60, 250, 230]], device=device)


def dense_layers(net: nn.Module) -> dict[str, nn.Module]:
    """The convolutions of one group and the linear layers."""
    return {path: one for path, one in net.named_modules() if is_dense(one)}


def channels_of(view: View) -> Channels:
    """Trace a detector. A layer that does not run where boxes are found, such as a mask head's, is in no dict."""
    net, dense = view.detector, dense_layers(view.detector)
    modules = {path: one for path, one in net.named_modules() if scales(one) or [*one.parameters(recurse=False)]}
    noise, rois = probe(net)
    with evaluating(net), torch.enable_grad(), Recorder() as seen:
        for path, one in modules.items():
            seen.watch(path, one, Call.of)
        view.run(noise.requires_grad_(), (), rois, whole=True)
    calls: dict[str, Sequence[Call]] = {path: seen.calls(path) for path in modules if seen.calls(path)}
    walk = Walk({path: one for path, one in modules.items() if not scales(one)}, calls)
    read = {path: walk.read(modules[path], some) for path, some in calls.items()}
    cells = {path: some[0].cells for path, some in calls.items() if some[0].cells}
    return _numbered(walk, {path: one for path, one in read.items() if len(one)}, dense, cells)


def _numbered(
    walk: Walk, read: Mapping[str, Tensor], dense: Container[str], cells: dict[str, tuple[int, ...]]
) -> Channels:
    """What a walk found, its joined outputs as one."""
    number = united(sum(len(one) for one in walk.written.values()), walk.joined)
    free = torch.zeros(1 + int(number.max()), dtype=torch.bool)
    for path, one in read.items():
        free[number[one]] |= path in dense
    free[number[torch.cat([LOST, *walk.pinned])]] = False
    writers: list[tuple[str, ...]] = [()] * len(free)
    for path, one in walk.written.items():
        for place in number[one].tolist():
            writers[place] += (path,)
    kinds = {some: kind for kind, some in enumerate(dict.fromkeys(writers))}
    return Channels(
        written={path: number[one] for path, one in walk.written.items()},
        read={path: number[one] for path, one in read.items()},
        kinds=torch.tensor([kinds[some] for some in writers]),
        free=free & torch.tensor([len(some) == len({*some}) for some in writers]),
        cells=cells,
    )


def united(count: int, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """(count,) numbers from 0 on, the same for places that pairs join, by others too.

    Example:
        >>> united(5, [(torch.tensor([0, 3]), torch.tensor([4, 4]))])
        tensor([0, 1, 2, 0, 0])
    """
    number = torch.arange(count)
    one, other = (torch.cat([LOST, *side]) for side in zip((LOST, LOST), *pairs, strict=True))
    while True:
        least = torch.minimum(number[one], number[other])
        found = number.scatter_reduce(0, one, least, "amin").scatter_reduce(0, other, least, "amin")
        if found.equal(number):
            numbers: Tensor = torch.unique(number, return_inverse=True)[1]
            return numbers
        number = found[found]
