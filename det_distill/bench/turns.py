"""Things timed in turns, so that a machine's noise falls on all of them alike."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)


def timed(call: Callable[[], Any], device: str) -> float:
    """Seconds of one call, until the device has done what it asked for."""
    _wait(device)
    begin = perf_counter()
    call()
    _wait(device)
    return perf_counter() - begin


def in_turns(calls: Mapping[Key, Callable[[], Any]], rounds: int, device: str) -> dict[Key, list[float]]:
    """Seconds of each call, round after round; one round more comes first, to warm up."""
    times: dict[Key, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            seconds = timed(call, device)
            if turn:
                times[name].append(seconds)
    return times


def ratio(over: Sequence[float], *under: Sequence[float]) -> float:
    """The median over rounds of one time by the sum of others of the same round."""
    return median(whole / sum(parts) for whole, *parts in zip(over, *under, strict=True))


def milliseconds(times: Sequence[float]) -> str:
    """Their median, for a table."""
    return f"{1e3 * median(times):.0f}"


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
