"""Numbers of the host on a device."""

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def kept(numbers: tuple[Any, ...], device: torch.device) -> Tensor:
    """An int64 tensor of them, nobody's to change: made once, since the host waits for a GPU to make one."""
    with torch.inference_mode(False):  # who asks first may be judging, who asks next may train
        return torch.tensor(numbers, dtype=torch.long, device=device)
