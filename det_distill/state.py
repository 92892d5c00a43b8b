"""A Distiller's state dict reads as the plain student's: renamed in hooks, on the way out and in.

MMEngine gathers weights by walking `_modules` and calling the state-dict hooks, never `state_dict()`, so the
renaming sits in those hooks; prefixes of wrappers (`module.` of DDP and EMA) are kept.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

from torch import nn

STUDENT, TERMS = "student.", "terms."


def rename(state: MutableMapping[str, Any], new: Callable[[str], str | None]) -> None:
    """Give every key its new name, in place and in order; None leaves the entry out."""
    for mapping in (state, getattr(state, "_metadata", {})):
        renamed = {name: value for key, value in mapping.items() if (name := new(key)) is not None}
        mapping.clear()
        mapping.update(renamed)


def without(key: str, prefix: str, part: str) -> str:
    """`<prefix><part>x` becomes `<prefix>x`; any other key stays."""
    return prefix + key[len(prefix + part) :] if key.startswith(prefix + part) else key


def hide_prefix(_module: nn.Module, state: MutableMapping[str, Any], prefix: str, _metadata: Any) -> None:
    """`student.x` becomes `x` and the terms' own weights leave."""
    rename(state, lambda key: None if _of_terms(key, prefix) else without(key, prefix, STUDENT))


def _of_terms(key: str, prefix: str) -> bool:
    return key.startswith(prefix + TERMS)


def heads_of_rpn(state: MutableMapping[str, Any], prefix: str) -> None:
    """A bare RPN's weights under the names of a two-stage detector, as MMDetection itself exchanges them.

    Why again: MMDetection's own exchange finds nothing below a prefix, such as a Distiller's.
    """
    keys = [key for key in state if key.startswith(f"{prefix}bbox_head.")]
    if not any(key.startswith(f"{prefix}rpn_head.") for key in state):
        for key in keys:
            state[f"{prefix}rpn_head.{key[len(prefix) + len('bbox_head.') :]}"] = state.pop(key)


def restore_prefix(terms: nn.Module, state: MutableMapping[str, Any], prefix: str) -> None:
    """The way in: plain keys find the student again; adapters keep the values they have."""
    own = prefix + STUDENT
    for key in [key for key in state if key.startswith(prefix)]:
        if not key.startswith(own) and not _of_terms(key, prefix):
            state[own + key[len(prefix) :]] = state.pop(key)
    for name, value in terms.state_dict().items():
        state.setdefault(prefix + TERMS + name, value)
