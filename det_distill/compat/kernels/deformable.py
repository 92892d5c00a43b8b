"""Deformable convolution, plain (v1) and modulated (v2), forward and backward."""

from typing import Any

import torch
from torch import Tensor

from det_distill.compat.kernels.precision import wide

_tv = torch.ops.torchvision


def _geometry(kw: dict[str, Any]) -> tuple[int, ...]:
    """torchvision's order (stride, padding, dilation as h, w; groups) from v1's keyword names."""
    pairs = (kw["dH"], kw["dW"], kw["padH"], kw["padW"], kw["dilationH"], kw["dilationW"])
    return (*pairs, kw["group"], kw["deformable_group"])


def _geometry_v2(kw: dict[str, Any]) -> tuple[int, ...]:
    """The same from v2's keyword names."""
    pairs = (f"{name}_{axis}" for name in ("stride", "pad", "dilation") for axis in "hw")
    return (*(kw[pair] for pair in pairs), kw["group"], kw["deformable_group"])


def _deform_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: tuple[int, ...],
) -> tuple[Tensor, ...]:
    """Gradients of (input, weight, offset, mask, bias)."""
    grad, x, weight, offset = wide(grad, x, weight, offset)
    modulation = x.new_zeros(x.shape[0], 1) if mask is None else mask.to(x)
    bias = x.new_zeros(weight.shape[0])
    args = x, weight, _readable(offset), modulation, bias, *geometry, mask is not None
    grads: tuple[Tensor, ...] = _tv._deform_conv2d_backward(grad, *args)
    return grads


def _deform(x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: tuple[int, ...]) -> Tensor:
    x, weight, offset = wide(x, weight, offset)
    modulation = x.new_zeros(x.shape[0], 1) if mask is None else mask.to(x)
    bias = x.new_zeros(weight.shape[0])
    out: Tensor = _tv.deform_conv2d(x, weight, _readable(offset), modulation, bias, *geometry, mask is not None)
    return out if offset.is_cuda else out.masked_fill(offset.isnan().any(dim=1, keepdim=True), torch.nan)


def _readable(offset: Tensor) -> Tensor:
    """Without NaN, at which torchvision's kernel for the CPU reads beyond the map, and the process dies."""
    return offset if offset.is_cuda else offset.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _as_read(maps: Tensor, cells: torch.Size) -> Tensor:
    """Offsets or weights of a larger map than is made, as mmcv's kernel reads them: an image's first, in its own rows.

    DyHead gives such to its convolutions of stride 2, and its published weights were trained so.

    Args:
        maps: (B, K, H, W).
        cells: (h, w) of what is made.

    Returns:
        (B, K, h, w).

    Raises:
        ValueError: They are of a smaller map.
    """
    if maps.shape[2:] == cells:
        return maps
    wanted = maps.shape[1] * cells.numel()
    if maps[0].numel() < wanted:
        raise ValueError(
            f"deformable convolution: offsets or weights have cells {tuple(maps.shape[2:])}, fewer than the output's "
            f"{tuple(cells)}"
        )
    return maps.flatten(1)[:, :wanted].reshape(*maps.shape[:2], *cells)


def _unread(target: Tensor, grad: Tensor) -> None:
    """Write the gradient of what `_as_read` read; the rest was not read."""
    if target.shape != grad.shape:
        whole = grad.new_zeros(target.shape).flatten(1)
        whole[:, : grad[0].numel()] = grad.flatten(1)
        grad = whole.view(target.shape)
    target.copy_(grad)


def deform_conv_forward(
    x: Tensor, weight: Tensor, offset: Tensor, output: Tensor, _columns: Tensor, _ones: Tensor, **kw: Any
) -> None:
    output.copy_(_deform(x, weight, offset, None, _geometry(kw)))


def deform_conv_backward_input(
    x: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    _columns: Tensor,
    **kw: Any,
) -> None:
    grads = _deform_backward(grad_output, x, weight, offset, None, _geometry(kw))
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])


def deform_conv_backward_parameters(
    x: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    _columns: Tensor,
    _ones: Tensor,
    scale: float = 1,
    **kw: Any,
) -> None:
    # The kernel reads only the shape of the weight for this gradient, so the empty one serves.
    grads = _deform_backward(grad_output, x, torch.zeros_like(grad_weight), offset, None, _geometry(kw))
    grad_weight.add_(grads[1].to(grad_weight), alpha=scale)


def modulated_deform_conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    _ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    _columns: Tensor,
    with_bias: bool,
    **kw: Any,
) -> None:
    offset, mask = (_as_read(one, output.shape[2:]) for one in (offset, mask))
    out = _deform(x, weight, offset, mask, _geometry_v2(kw))
    output.copy_(out + bias.to(out)[:, None, None] if with_bias else out)


def modulated_deform_conv_backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    _ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    _columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **kw: Any,
) -> None:
    offset, mask = (_as_read(one, grad_output.shape[2:]) for one in (offset, mask))
    grads = _deform_backward(grad_output, x, weight, offset, mask, _geometry_v2(kw))
    for target, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads[:4], strict=True):
        _unread(target, grad)
    if with_bias:
        grad_bias.copy_(grads[4])
