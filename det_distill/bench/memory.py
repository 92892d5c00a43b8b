"""How much memory a call takes at most."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def peak(call: Callable[[], Any], device: str) -> int:
    """Bytes on the device, or on a CPU of the process above what it held before; there the process must be fresh.

    Raises:
        OSError: The system does not tell, as any but Linux.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        call()
        return int(torch.cuda.max_memory_allocated())
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not found:
        raise OSError(f"/proc/self/status tells no {key}")
    return 1024 * int(found[1])
