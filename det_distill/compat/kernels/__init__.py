"""mmcv's op signatures over torchvision's kernels: forward and backward, results written in place.

mmcv's autograd functions allocate the outputs and hand them in, so these functions fill tensors and
return nothing, except the three NMS ops and the attention.
"""

import torch

from det_distill.compat.kernels.attention import ms_deform_attn_backward, ms_deform_attn_forward
from det_distill.compat.kernels.deformable import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from det_distill.compat.kernels.focal import sigmoid_focal_loss_backward, sigmoid_focal_loss_forward
from det_distill.compat.kernels.roi_pooling import (
    roi_align_backward,
    roi_align_forward,
    roi_pool_backward,
    roi_pool_forward,
)
from det_distill.compat.kernels.suppression import nms, nms_match, softnms


def get_compiler_version() -> str:
    return "none (torchvision kernels)"


def get_compiling_cuda_version() -> str:
    return str(torch.version.cuda or "not available")


OPS = {
    op.__name__: op
    for op in (
        nms,
        softnms,
        nms_match,
        roi_align_forward,
        roi_align_backward,
        roi_pool_forward,
        roi_pool_backward,
        deform_conv_forward,
        deform_conv_backward_input,
        deform_conv_backward_parameters,
        modulated_deform_conv_forward,
        modulated_deform_conv_backward,
        ms_deform_attn_forward,
        ms_deform_attn_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        get_compiler_version,
        get_compiling_cuda_version,
    )
}
