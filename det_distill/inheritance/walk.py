"""What becomes of the outputs of a net's layers: a walk through autograd's graph of one forward pass."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from det_distill.inheritance.rows import is_dense

MIXERS = ("AddmmBackward0", "BmmBackward0", "ConvolutionBackward0", "MmBackward0")  # of products in no module
CHANNEL_AXES = (1, 2**64 - 3)  # of (B, C, H, W), counted from behind too, as autograd saves it
LOST = torch.empty(0, dtype=torch.long)  # channels whose order something else has changed


@dataclass(frozen=True)
class Call:
    """One forward of a module: what made its input and its output, nodes of autograd's graph, and how wide that is, of
    maps also how many cells high and wide.
    """

    given: Any
    made: Any
    width: int
    cells: tuple[int, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], value: Any) -> "Call":
        """Now: an in-place ReLU behind a layer is about to change what made its output."""
        given, made = (getattr(one, "grad_fn", None) for one in (args[0] if args else None, value))
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        return cls(given, made, shape[1] if len(shape) > 1 else 0, shape[2:] if len(shape) == 4 else ())


class Walk:
    """Numbers every output of every layer, and follows them."""

    def __init__(self, writers: Mapping[str, Any], calls: Mapping[str, Sequence[Call]]) -> None:
        sizes = {
            path: len(one.weight) if is_dense(one) else calls[path][0].width
            for path, one in writers.items()
            if path in calls
        }
        numbers: Sequence[Tensor] = torch.split(torch.arange(sum(sizes.values())), [*sizes.values()])
        self.written = dict(zip(sizes, numbers, strict=True))
        self.makers: dict[Any, str] = {one.made: path for path, some in calls.items() for one in some}
        self.joined: list[tuple[Tensor, Tensor]] = []
        self.pinned: list[Tensor] = [self.written[path] for path in sizes if not is_dense(writers[path])]
        self._known: dict[Any, Tensor | None] = {None: None}

    def read(self, module: nn.Module, calls: Sequence[Call]) -> Tensor:
        """(I,) what each of a module's inputs is, in all its calls; empty where nobody knows."""
        found = self._one([self._behind(call.given) for call in calls])
        if found is None:
            return LOST
        wanted = _inputs(module)
        if not len(found) or not wanted or wanted % len(found):
            return self._lose([found])
        if isinstance(module, nn.GroupNorm):  # whose groups are neighbours
            self.pinned.append(found)
        return found.repeat_interleave(wanted // len(found))

    def _behind(self, node: Any) -> Tensor | None:
        """What the channels are of the value a node made; None where they are of no layer."""
        if node not in self._known:
            self._known[node] = self._find(node)
        return self._known[node]

    def _find(self, node: Any) -> Tensor | None:
        maker = self.makers.get(node, "")
        if maker in self.written:
            return self.written[maker]
        parts = [self._behind(before) for before, _ in node.next_functions]
        if not maker and (node.name() in MIXERS or getattr(node, "_saved_dim", None) in CHANNEL_AXES):
            some = [one for one in parts if one is not None]
            whole = node.name() == "CatBackward0" and len(some) == len(parts) and all(len(one) for one in some)
            return torch.cat(some) if whole else self._lose(some)
        return self._one(parts)

    def _one(self, parts: Iterable[Tensor | None]) -> Tensor | None:
        """Of values that are summed, multiplied, or given to one layer: their channels are one."""
        known = [one for one in parts if one is not None]
        if not known:
            return None
        widest = max(known, key=len)
        if any(len(one) not in (1, len(widest)) for one in known):
            return self._lose(known)
        self.joined += [(widest, one) for one in known if len(one) == len(widest)]
        return widest

    def _lose(self, parts: Iterable[Tensor]) -> Tensor:
        self.pinned += parts
        return LOST


def scales(module: nn.Module) -> bool:
    """Whether a module multiplies each channel by itself: a norm, or a depthwise convolution."""
    if isinstance(module, nn.Conv2d):
        return module.groups == module.in_channels == module.out_channels > 1
    return isinstance(module, _BatchNorm | nn.GroupNorm)


def _inputs(module: Any) -> int:
    """How many channels a layer reads, those of maps laid flat times their cells; 0 where nobody knows."""
    if is_dense(module):
        return int(module.weight.shape[1])
    for name in ("in_channels", "num_features", "num_channels") if scales(module) else ():
        if hasattr(module, name):
            return int(getattr(module, name))
    return 0
