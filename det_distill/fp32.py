"""Losses compute in fp32 or better, also under autocast."""

from functools import reduce

import torch
from torch import Tensor


def common(*tensors: Tensor) -> torch.dtype:
    """The dtype that holds all of them, at least fp32."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def full(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, at least fp32, the teacher detached."""
    dtype = common(student, teacher)
    return student.to(dtype), teacher.detach().to(dtype)


def no_autocast(like: Tensor) -> torch.autocast:
    """A context in which products of matrices keep the dtype they are given."""
    return torch.autocast(device_type=like.device.type, enabled=False)
