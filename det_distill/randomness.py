"""Random streams: kept as they were around work that draws, saved and restored with a checkpoint."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.runner import set_random_seed


def capture() -> dict[str, Any]:
    """The state of the CPU, CUDA, numpy and Python generators, in types torch's safe loader reads."""
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - MMDetection draws from the global stream
    name, keys, *rest = legacy
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": [version, list(internal), gauss],
    }


def restore(state: dict[str, Any]) -> None:
    """Set every generator as `capture` found it; a state that was loaded onto a GPU will do."""
    restore_torch(state)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def restore_torch(state: dict[str, Any]) -> None:
    """Set torch's generators alone."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"][: torch.cuda.device_count()]])


def branch(state: dict[str, Any], rank: int) -> None:
    """Set every generator to streams of `rank`'s own that depend on nothing but `state` and `rank`."""
    restore_torch(state)
    set_random_seed(int(torch.randint(2**31, ())) + rank)


@contextmanager
def untouched() -> Iterator[None]:
    """Whatever is drawn inside, the streams go on outside as if nothing had been."""
    state = capture()
    try:
        yield
    finally:
        restore(state)
