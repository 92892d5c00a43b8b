"""Multi-scale deformable attention, for which DETR's kin ask a GPU's kernel: by mmcv's own torch code for CPUs.

That code samples each level by `grid_sample`, so it runs wherever torch does, slower than a fused kernel.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from det_distill.compat.kernels.precision import wide


def _attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")  # now: its import asks for the kernels here
    out: Tensor = module.multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    return out


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, _starts: Tensor, locations: Tensor, weights: Tensor, **_: Any
) -> Tensor:
    own, where, much = wide(value, locations, weights)
    return _attend(own, shapes, where, much).to(value)


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    _starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    *grads: Tensor,
    **_: Any,
) -> None:
    own, where, much = (one.detach().requires_grad_() for one in wide(value, locations, weights))
    with torch.enable_grad():
        out = _attend(own, shapes, where, much)
    for target, grad in zip(grads, torch.autograd.grad(out, (own, where, much), grad_output.to(out)), strict=True):
        target.copy_(grad)
