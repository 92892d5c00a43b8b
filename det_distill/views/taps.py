"""Record what modules and methods return while a `with` lasts.

Why: hooks and wrapped methods see a stock detector at work without changing it, and both are gone when
the block ends, so nothing outlives a step and nothing is pickled or deep-copied by accident.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn

# torch.compile takes hooks for as lasting as the module they are on, unless told to look at them at each call.
torch._dynamo.config.skip_nnmodule_hook_guards = False

Pick = Callable[[tuple[Any, ...], Any], Any]


def cloned(value: Any) -> Any:
    """A copy of every tensor in nested tuples and lists: a following in-place ReLU cannot rectify it."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, list | tuple):
        return tuple(cloned(part) for part in value)
    return value


def output(_args: tuple[Any, ...], value: Any) -> Any:
    """Picks what the call returned."""
    return value


class Recorder:
    """Recorded values by name; everything it attached is detached on exit.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 3)
        >>> with Recorder() as seen:
        ...     seen.watch("hidden", layer)
        ...     _ = layer(torch.ones(1, 2))
        >>> [hidden.shape for hidden in seen.calls("hidden")]
        [torch.Size([1, 3])]
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[Any]] = {}
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    @torch.compiler.disable  # else compiled anew for every name
    def watch(self, name: str, module: nn.Module, pick: Pick = output) -> None:
        """Record `pick(positional arguments, output)` of each forward of `module`."""

        def hook(_module: nn.Module, args: tuple[Any, ...], value: Any) -> None:
            self._calls.setdefault(name, []).append(pick(args, value))

        self._undo.append(module.register_forward_hook(hook).remove)

    @torch.compiler.disable
    def wrap(self, name: str, owner: nn.Module, method: str, pick: Pick = output) -> None:
        """Record `pick(positional arguments, result)` of each call of `owner.method`."""
        inner, before = getattr(owner, method), vars(owner).get(method)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            value = inner(*args, **kwargs)
            self._calls.setdefault(name, []).append(pick(args, value))
            return value

        setattr(owner, method, recorded)
        # What another recorder or the user had put there comes back.
        self._undo.append(lambda: setattr(owner, method, before) if before else delattr(owner, method))

    @torch.compiler.disable
    def last_inputs(self, name: str, owner: nn.Module, modules: Sequence[nn.Module]) -> None:
        """Record, of each forward of `owner`, a copy of what each of the modules was last given in it."""
        given: dict[nn.Module, Tensor] = {}

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            given[module] = args[0].clone()  # now: an in-place ReLU is about to rectify it

        self._undo.extend(module.register_forward_pre_hook(hook).remove for module in modules)
        self.watch(name, owner, lambda *_: tuple(given.pop(module) for module in modules))

    def calls(self, name: str) -> tuple[Any, ...]:
        """Every recorded value, in order: a head shared by the levels of a pyramid runs once per level."""
        return tuple(self._calls.get(name, ()))


def submodule(root: nn.Module, path: str) -> nn.Module:
    """`root.get_submodule(path)`, with the error a user can act on.

    Raises:
        ValueError: No module of that path; names the children found where the path breaks.
    """
    here = root
    walked: list[str] = []
    for part in path.split("."):
        children = dict(here.named_children())
        if part not in children:
            place = ".".join(walked) or type(root).__name__
            raise ValueError(f"no module '{path}': '{place}' has no child '{part}'; it has {_listed(children)}")
        here = children[part]
        walked.append(part)
    return here


def below(path: str, modules: Iterable[str]) -> bool:
    """Whether a dotted path is one of some modules or lies inside one.

    Example:
        >>> below("neck.fpn_convs.0", ["neck"]), below("neck", ["neck"]), below("necklace", ["neck"])
        (True, True, False)
    """
    return any(f"{path}.".startswith(f"{one}.") for one in modules)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "no children"
