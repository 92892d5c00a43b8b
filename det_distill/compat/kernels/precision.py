"""Half precision is computed in fp32: torchvision's CPU kernels know no bfloat16, and boxes need the digits."""

import torch
from torch import Tensor


def wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common dtype, at least fp32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype).contiguous() for tensor in tensors)
