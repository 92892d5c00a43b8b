"""mmcv's op signatures over torchvision's kernels: forward and backward, results written in place.

mmcv's autograd functions allocate the outputs and hand them in, so these functions fill tensors and
return nothing, except the three NMS ops. Half precision is computed in fp32 and cast back: torchvision's
CPU kernels know no bfloat16, and box coordinates need the digits.
"""

from typing import Any

import torch
import torchvision
from torch import Tensor

OPS = (
    "nms",
    "softnms",
    "nms_match",
    "roi_align_forward",
    "roi_align_backward",
    "roi_pool_forward",
    "roi_pool_backward",
    "deform_conv_forward",
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "modulated_deform_conv_forward",
    "modulated_deform_conv_backward",
    "sigmoid_focal_loss_forward",
    "sigmoid_focal_loss_backward",
    "get_compiler_version",
    "get_compiling_cuda_version",
)
_tv = torch.ops.torchvision


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common dtype, at least fp32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype).contiguous() for tensor in tensors)


# ---------------------------------------------------------------- suppression


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices kept, best score first. `offset=1` counts pixels: a box of x1 == x2 is one wide."""
    boxes, scores = _wide(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    keep: Tensor = torchvision.ops.nms(boxes, scores, iou_threshold)
    return keep


def _ious(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of one (4,) box with (N, 4) boxes; two boxes without area overlap by 0, not by 0/0."""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0)
    inter = sides.prod(dim=1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    return (inter / (area + areas - inter)).nan_to_num(nan=0.0)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017); methods 0 hard, 1 linear, 2 Gaussian.

    Fills the first rows of `dets` (N, 5) with boxes and decayed scores in the order of picking and
    returns the (M,) indices of those rows. A box decayed below `min_score` is dropped.
    """
    boxes, scores = _wide(boxes, scores)
    scores, left = scores.clone(), torch.arange(len(scores))
    kept: list[Tensor] = []
    while len(left):
        best = left[scores[left].argmax()]
        dets[len(kept)] = torch.cat((boxes[best], scores[best, None]))
        kept.append(best)
        left = left[left != best]
        iou = _ious(boxes[best], boxes[left], offset)
        near = iou >= iou_threshold
        decay = {0: (~near).to(iou), 1: torch.where(near, 1 - iou, torch.ones_like(iou)), 2: (-(iou**2) / sigma).exp()}
        scores[left] = scores[left] * decay[method]
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy groups of (N, 5) detections: each list starts with the kept one, then those it suppresses."""
    (dets,) = _wide(dets)
    groups, left = [], dets[:, 4].argsort(descending=True, stable=True)
    while len(left):
        best, rest = left[0], left[1:]
        near = _ious(dets[best, :4], dets[rest, :4], 0) >= iou_threshold
        groups.append([int(best), *rest[near].tolist()])
        left = rest[~near]
    return groups


# ---------------------------------------------------------------- RoI pooling


def _averaging(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' needs a compiled mmcv; torchvision's kernel averages. Use pool_mode='avg'."
        )


def roi_align_forward(
    x: Tensor,
    rois: Tensor,
    output: Tensor,
    _argmax_y: Tensor,
    _argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    _averaging(pool_mode)
    feats, boxes = _wide(x, rois)
    output.copy_(_tv.roi_align(feats, boxes, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    _argmax_y: Tensor,
    _argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    _averaging(pool_mode)
    grad, boxes = _wide(grad_output, rois)
    args = spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned
    grad_input.copy_(_tv._roi_align_backward(grad, boxes, *args))


def _bins(start: Tensor, stop: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """First and one-past-last cell, (N, count) each, of equal parts of N real intervals on a map of `size` cells."""
    step = ((stop - start) / count)[:, None]
    part = torch.arange(count, device=start.device)
    first = (part * step + start[:, None]).floor()
    after = ((part + 1) * step + start[:, None]).ceil()
    return first.clamp(0, size), after.clamp(0, size)


def roi_pool_forward(
    x: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Maximum over each bin.

    Why not torchvision's bins: it rounds a RoI to whole cells first, as Fast R-CNN did; mmcv rounds each
    bin outwards instead (csrc/common/cuda/roi_pool_cuda_kernel.cuh). So every bin goes in as a RoI of its own.
    """
    feats, boxes = _wide(x, rois)
    image, x1, y1, x2, y2 = boxes.unbind(dim=1)
    start_x, start_y, stop_x, stop_y = (edge * spatial_scale for edge in (x1, y1, x2 + 1, y2 + 1))
    left, right = _bins(start_x, stop_x, pooled_width, x.shape[3])
    top, bottom = _bins(start_y, stop_y, pooled_height, x.shape[2])
    shape = (len(rois), pooled_height, pooled_width)
    sides = (image[:, None, None], left[:, None], top[:, :, None], right[:, None] - 1, bottom[:, :, None] - 1)
    cells = torch.stack([side.expand(shape) for side in sides], dim=-1).reshape(-1, 5)
    pooled, where = (t.view(*shape, x.shape[1]).permute(0, 3, 1, 2) for t in _tv.roi_pool(feats, cells, 1.0, 1, 1))
    # torchvision pools at least one cell; a bin or RoI without any yields 0 and no gradient (argmax -1).
    proper = (stop_x > start_x) & (stop_y > start_y)
    filled = proper[:, None, None] & (right > left)[:, None] & (bottom > top)[:, :, None]
    output.copy_(pooled.where(filled[:, None], pooled.new_zeros(())))
    argmax.copy_(where.where(filled[:, None], where.new_tensor(-1)))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    grad, boxes = _wide(grad_output, rois)
    args = spatial_scale, pooled_height, pooled_width, *grad_input.shape
    grad_input.copy_(_tv._roi_pool_backward(grad, boxes, argmax, *args))


# ---------------------------------------------------------------- deformable convolution


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
    grad, x, weight, offset = _wide(grad, x, weight, offset)
    modulation = x.new_zeros(x.shape[0], 1) if mask is None else mask.to(x)
    bias = x.new_zeros(weight.shape[0])
    args = x, weight, offset, modulation, bias, *geometry, mask is not None
    grads: tuple[Tensor, ...] = _tv._deform_conv2d_backward(grad, *args)
    return grads


def _deform(x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: tuple[int, ...]) -> Tensor:
    x, weight, offset = _wide(x, weight, offset)
    modulation = x.new_zeros(x.shape[0], 1) if mask is None else mask.to(x)
    bias = x.new_zeros(weight.shape[0])
    out: Tensor = _tv.deform_conv2d(x, weight, offset, modulation, bias, *geometry, mask is not None)
    return out


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
    grads = _deform_backward(grad_output, x, weight, offset, mask, _geometry_v2(kw))
    for target, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads[:4], strict=True):
        target.copy_(grad)
    if with_bias:
        grad_bias.copy_(grads[4])


# ---------------------------------------------------------------- focal loss


def _truth(x: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(N, C) each: +1 at the target's class and -1 elsewhere; alpha balance times class weight.

    Target (N,) in [0, C], where C is background. A weight is per target class; background weighs 1
    (the compiled kernel reads past the end of the weights there).
    """
    hit = torch.nn.functional.one_hot(target, x.shape[1] + 1)[:, :-1].to(x)
    balance = alpha * hit + (1 - alpha) * (1 - hit)
    if weight.numel():
        balance = balance * torch.cat((weight.to(x), x.new_ones(1)))[target][:, None]
    return 2 * hit - 1, balance


def sigmoid_focal_loss_forward(
    x: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    (logits,) = _wide(x)
    sign, balance = _truth(logits, target, weight, alpha)
    z = sign * logits  # p = sigmoid(z) is the probability of the truth
    output.copy_(-balance * (-z).sigmoid() ** gamma * torch.nn.functional.logsigmoid(z))


def sigmoid_focal_loss_backward(
    x: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """In closed form: autograd's power rule gives 0 * inf at p = 1 for gamma < 1."""
    (logits,) = _wide(x)
    sign, balance = _truth(logits, target, weight, alpha)
    z = sign * logits
    p, q = z.sigmoid(), (-z).sigmoid()
    grad_input.copy_(-balance * sign * q**gamma * (q - gamma * p * torch.nn.functional.logsigmoid(z)))


# ---------------------------------------------------------------- what collect_env asks


def get_compiler_version() -> str:
    return "none (torchvision kernels)"


def get_compiling_cuda_version() -> str:
    return str(torch.version.cuda or "not available")
