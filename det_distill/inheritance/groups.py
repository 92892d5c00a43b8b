"""Which layers of a net have one order of channels, for they are joined by sums, shared layers or crops.

A walk through autograd's graph of one forward pass tells.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from det_distill.inheritance.rows import is_dense
from det_distill.views.base import View
from det_distill.views.taps import Recorder

TINY = torch.finfo(torch.float32).tiny


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
        """(C,) how much each channel weighs, layers counting alike.

        Behind a batch norm its scale stands for the writer's weights, whose size the norm undoes.
        """
        count = self.count
        found = [one.weight.square() for one in self.norms if one.weight is not None]
        found = found or [one.weight.flatten(1).square().sum(dim=1) for one in self.writers]
        found += [_by_channel(one.weight, count).square().sum(dim=(0, 2)) for one in self.readers]
        return torch.stack([(one / one.mean().clamp(min=TINY)).double() for one in found]).sum(dim=0)

    def sort(self) -> None:
        """Reorder every layer."""
        order = self.weights().argsort(descending=True, stable=True)
        for one in self.writers | self.norms:
            for held in (*one.parameters(recurse=False), *one.buffers(recurse=False)):
                if held.dim():
                    held.copy_(held[order])
        for one in self.readers:
            one.weight.copy_(_by_channel(one.weight, self.count)[:, order].reshape(one.weight.shape))


def layers_of(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The convolutions of one group and the linear layers."""
    return [(name, one) for name, one in net.named_modules() if is_dense(one)]


def groups_of(view: View, inputs: Tensor, rois: Tensor) -> list[Group]:
    """What has to be sorted together, and can be.

    Args:
        view: Of a detector in eval mode.
        inputs: (B, 3, H, W), preprocessed.
        rois: (N, 5) image index and box, for the layers of a RoI head.

    Raises:
        ValueError: A layer does not run.
    """
    net, layers = view.detector, dict(layers_of(view.detector))
    watched = {name: one for name, one in net.named_modules() if any(True for _ in one.parameters(recurse=False))}
    with torch.enable_grad(), Recorder() as seen:
        for name, one in watched.items():
            # Now: an in-place ReLU behind a layer is about to change what made its output.
            seen.watch(name, one, lambda args, value: (_maker(args[0]), _maker(value)))
        view.run(inputs.requires_grad_(), list(layers), rois)
    inputs.requires_grad_(False)
    for name in layers:
        if not seen.calls(name):
            raise ValueError(
                f"the {view.side}'s '{name}' does not run where boxes are found, so nobody knows whose channels it "
                "reads; use channels='first'"
            )
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


def _maker(value: Any) -> Any:
    """The node of autograd's graph that made a tensor; None of anything else."""
    return value.grad_fn if isinstance(value, Tensor) else None


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
        if isinstance(maker, _BatchNorm):
            group.norms[maker] = None
        elif maker is not None:
            group.writers[maker] = None
            continue
        queue.extend(before for before, _ in one.next_functions)


def _fits(group: Group, layers: Iterable[nn.Module]) -> bool:
    """Whether all that writes is a layer, and each reader has the same number of inputs for each channel."""
    if not group.writers.keys() <= {*layers} or not group.count:
        return False
    return all(one.weight.shape[1] % group.count == 0 for one in group.readers)


def _by_channel(weight: Tensor, count: int) -> Tensor:
    """(O, C, n) a reader's weight, of maps laid flat too."""
    return weight.reshape(len(weight), count, -1)


def _unique(groups: Iterable[Group]) -> list[Group]:
    return list({id(one): one for one in groups}.values())
