"""RoIAlign and RoIPool, forward and backward."""

import torch
from torch import Tensor

from det_distill.compat.kernels.precision import wide

_tv = torch.ops.torchvision


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
    feats, boxes = wide(x, rois)
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
    grad, boxes = wide(grad_output, rois)
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
    feats, boxes = wide(x, rois)
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
    grad, boxes = wide(grad_output, rois)
    args = spatial_scale, pooled_height, pooled_width, *grad_input.shape
    grad_input.copy_(_tv._roi_pool_backward(grad, boxes, argmax, *args))
