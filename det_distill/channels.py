"""Sort a net's channels, the heaviest first, wherever that changes nothing of what the net computes.

Layers joined by sums, shared layers or crops have one order: which ones, a walk through autograd's graph of one forward
pass tells. A channel weighs what Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023), give it: the
squared norms of all that belongs to it in every layer that writes or reads it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from det_distill.modes import evaluating
from det_distill.views.base import DRY_RUN, View
from det_distill.views.taps import Recorder

TOLERANCE = 1e-3  # of the greatest output: how far a sum in another order may be off


@dataclass
class Group:
    """Layers of one order of channels: those that write them, scale them, and read them."""

    writers: dict[Any, None] = field(default_factory=dict)  # dicts are sets that keep their order: so sums do
    norms: dict[Any, None] = field(default_factory=dict)
    readers: dict[Any, None] = field(default_factory=dict)
    free: bool = True  # false where something else looks at the channels too

    def joined(self, other: "Group") -> "Group":
        """Both as one."""
        sides = self.writers | other.writers, self.norms | other.norms, self.readers | other.readers
        return Group(*sides, free=self.free and other.free)

    @property
    def count(self) -> int:
        """The number of channels; 0 where writers disagree."""
        counts = {one.weight.shape[0] for one in self.writers} | {one.num_features for one in self.norms}
        return counts.pop() if len(counts) == 1 else 0

    def weights(self) -> Tensor:
        """(C,) how much each channel weighs, layers counting alike."""
        count = self.count
        found = [one.weight.square() for one in self.norms if one.weight is not None]
        found = found or [one.weight.flatten(1).square().sum(dim=1) for one in self.writers]
        found += [_by_channel(one.weight, count).square().sum(dim=(0, 2)) for one in self.readers]
        return torch.stack([(one / one.mean()).double() for one in found]).sum(dim=0)

    def sort(self) -> None:
        """Reorder every layer."""
        order = self.weights().argsort(descending=True, stable=True)
        for one in self.writers | self.norms:
            for held in (*one.parameters(recurse=False), *one.buffers(recurse=False)):
                if held.dim():
                    held.copy_(held[order])
        for one in self.readers:
            one.weight.copy_(_by_channel(one.weight, self.count)[:, order].reshape(one.weight.shape))


@torch.no_grad()
def sort_channels(view: View) -> int:
    """Sort the channels of a detector in place.

    Args:
        view: Of the detector.

    Returns:
        How many groups of layers were sorted.

    Raises:
        ValueError: It then computed something else: a part of it looks at the channels that no layer tells of.
    """
    net = view.detector
    device = next(net.parameters()).device
    noise = torch.randn(1, 3, DRY_RUN, DRY_RUN, generator=torch.Generator().manual_seed(0)).to(device)
    rois = torch.tensor([[0.0, 32, 32, 160, 160], [0, 8, 60, 250, 230]], device=device)
    with evaluating(net):
        groups = _groups(view, noise, rois)
        ends = [name for name, one in _layers(net) if not any(one in group.writers for group in groups)]
        before = _shown(view, noise, rois, ends)
        for group in groups:
            group.sort()
        after = _shown(view, noise, rois, ends)
    for name, one, other in zip(ends, before, after, strict=True):
        if not torch.allclose(one, other, rtol=0, atol=TOLERANCE * max(1e-3, float(one.abs().max()))):
            raise ValueError(
                f"sorted by weight, the channels of the {view.side} no longer give what they did at '{name}': a part "
                "of the net looks at them that is no convolution, linear layer or batch norm"
            )
    return len(groups)


def _layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The convolutions of one group and the linear layers."""
    return [
        (name, one)
        for name, one in net.named_modules()
        if isinstance(one, nn.Linear) or (isinstance(one, nn.Conv2d) and one.groups == 1)
    ]


def _shown(view: View, inputs: Tensor, rois: Tensor, names: Sequence[str]) -> list[Tensor]:
    """What some layers give, all their calls in one row."""
    sight = view.run(inputs, names, rois)
    return [torch.cat([one.flatten() for one in sight[name]]) for name in names]


def _groups(view: View, inputs: Tensor, rois: Tensor) -> list[Group]:
    """What has to be sorted together, and can be."""
    net, layers = view.detector, dict(_layers(view.detector))
    watched = {name: one for name, one in net.named_modules() if any(True for _ in one.parameters(recurse=False))}
    with torch.enable_grad(), Recorder() as seen:
        for name, one in watched.items():
            # Now: an in-place ReLU behind a layer is about to change what made its output.
            seen.watch(name, one, lambda args, value: (args[0].grad_fn, value.grad_fn))
        view.run(inputs.requires_grad_(), list(layers), rois)
    inputs.requires_grad_(False)
    makers = {made: one for name, one in watched.items() for _, made in seen.calls(name)}
    groups: dict[nn.Module, Group] = {}
    for name, one in watched.items():
        if isinstance(one, _BatchNorm):
            continue
        found = Group(readers={one: None}, free=one in layers.values())
        for given, _ in seen.calls(name):
            _trace(given, makers, found)
        for other in _unique(groups[writer] for writer in found.writers if writer in groups):
            found = found.joined(other)
        groups |= dict.fromkeys(found.writers, found)
    return [one for one in _unique(groups.values()) if one.free and _fits(one, layers.values())]


def _trace(node: Any, makers: dict[Any, nn.Module], group: Group) -> None:
    """Add to a group what made the value of a node of autograd's graph."""
    queue: list[Any] = [node]
    known: set[Any] = set()
    while queue:
        one = queue.pop()
        if one is None or one in known:
            continue
        known.add(one)
        maker = makers.get(one)
        if maker is not None and not isinstance(maker, _BatchNorm):
            group.writers[maker] = None
            continue
        if maker is not None:
            group.norms[maker] = None
        queue.extend(before for before, _ in one.next_functions)


def _fits(group: Group, layers: Iterable[nn.Module]) -> bool:
    """Whether all that writes is a layer, and each reader has the same number of inputs for each channel."""
    count = group.count
    return (
        bool(count)
        and group.writers.keys() <= {*layers}
        and all(one.weight.shape[1] % count == 0 for one in group.readers)
    )


def _by_channel(weight: Tensor, count: int) -> Tensor:
    """(O, C, n) a reader's weight, of maps laid flat too."""
    return weight.reshape(len(weight), count, -1)


def _unique(groups: Iterable[Group]) -> list[Group]:
    return list({id(one): one for one in groups}.values())
