"""Losses compute in fp32 or better, also under autocast."""

import torch
from torch import Tensor


def full(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, at least fp32, the teacher detached."""
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def no_autocast(like: Tensor) -> torch.autocast:
    """A context in which products of matrices keep the dtype they are given."""
    return torch.autocast(device_type=like.device.type, enabled=False)
