"""A Distiller's state dict reads as the plain student's: renamed in hooks, on the way out and in.

MMEngine gathers weights by walking `_modules` and calling the state-dict hooks, never `state_dict()`, so the
renaming sits in those hooks; prefixes of wrappers (`module.` of DDP and EMA) are kept.
"""

from collections.abc import MutableMapping
from typing import Any

from torch import nn

STUDENT, TERMS = "student.", "terms."


def hide_prefix(_module: nn.Module, state: MutableMapping[str, Any], prefix: str, _metadata: Any) -> None:
    """`student.x` becomes `x` and the terms' own weights leave, in place and in order."""
    renamed = {}
    for mapping in (state, getattr(state, "_metadata", None)):
        if mapping is None:
            continue
        renamed = {_plain(key, prefix): value for key, value in mapping.items() if not _of_terms(key, prefix)}
        mapping.clear()
        mapping.update(renamed)


def _plain(key: str, prefix: str) -> str:
    whole = prefix + STUDENT
    return prefix + key[len(whole) :] if key.startswith(whole) else key


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
