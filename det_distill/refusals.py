"""How a wrong value of a config is refused: by its key, with what was found and the nearest that is valid."""

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

# What a value of the wrong kind was seen to raise inside MMEngine, MMDetection and torch, over thousands of them.
REFUSALS = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(RuntimeError, MemoryError),
)

SAID = 1000  # characters of somebody else's error that a message repeats


@contextmanager
def blamed(key: str) -> Iterator[None]:
    """Whatever the block refuses, as one ValueError that names the config key."""
    try:
        yield
    except REFUSALS as error:
        raise ValueError(f"{key}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error says, cut where it recites a whole config; one that says too little by itself, with its name."""
    telling = isinstance(error, ValueError | TypeError) and str(error)
    said = str(error) if telling else f"{type(error).__name__} {error}".rstrip()
    return said if len(said) <= SAID else f"{said[:SAID]} ..."


def only_keys(found: Any, known: tuple[str, ...], key: str) -> None:
    """Refuse keys of a config dict that nothing reads.

    Raises:
        ValueError: Names the unknown key and the nearest known one.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"{key}={found!r:.80}; a dict is expected")
    for name in found:
        if name not in known:
            raise ValueError(f"{key}.{name!s:.80} is unknown{suggestion(str(name), known)}; known: {', '.join(known)}")


def choice(key: str, found: str, choices: Iterable[str]) -> str:
    """`found`, once it is known to be one of the choices.

    Raises:
        ValueError: It is none of them; names the key and the nearest.
    """
    known = tuple(choices)
    if not isinstance(found, str) or found not in known:
        raise ValueError(f"{key}={found!r:.80} is none of {', '.join(map(repr, known))}{suggestion(str(found), known)}")
    return found


def at_least(key: str, found: float, least: float) -> float:
    """`found`, once it is known to be no smaller than `least`.

    Raises:
        ValueError: It is smaller, infinite or not a number.
    """
    if not isinstance(found, Real) or not least <= found <= sys.float_info.max:
        raise ValueError(f"{key}={found!s:.80}; a number of at least {least} is expected")
    return found


def suggestion(found: str, known: Any) -> str:
    """`", did you mean 'x'?"`, or nothing when no name is near."""
    close = difflib.get_close_matches(found, [name for name in known if isinstance(name, str)], n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
