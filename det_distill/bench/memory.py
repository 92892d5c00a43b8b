"""How much memory tensors take: at the peak of a call, and between calls."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak(call: Callable[[], Any], device: str = "cpu") -> int:
    """Bytes at the fullest moment of a call, beyond what lived before it; read off torch's own allocator."""
    gc.collect()
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return int(torch.cuda.max_memory_allocated()) - before
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
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter) and _real(one)]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return len(tensors), sum(storages.values())


def _real(tensor: torch.Tensor) -> bool:
    """Whether bytes of its own lie behind it; other code leaves sparse tensors behind, and what compiling traced."""
    return tensor.layout is torch.strided and not torch._is_functional_tensor(tensor) and torch._C._has_storage(tensor)
