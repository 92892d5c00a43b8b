"""How much memory tensors take: at the peak of a call, and between calls."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak(call: Callable[[], Any]) -> int:
    """Bytes on the CPU at the fullest moment of a call, beyond what lived before it; read off torch's own allocator."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = call()
    del kept
    changes = [one for one in seen.profiler.kineto_results.events() if one.name() == "[memory]"]
    now = most = 0
    for one in sorted(changes, key=lambda one: one.start_ns()):
        now += one.nbytes()
        most = max(most, now)
    return most


def living() -> tuple[int, int]:
    """How many dense tensors live, and the bytes of their storages, each counted once."""
    gc.collect()
    found = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]  # sparse ones are of other tests
    tensors = [one for one in found if one.layout is torch.strided]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return len(tensors), sum(storages.values())
