"""mmcv's deformable attention for GPUs without its kernel, judged point by point."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from det_distill.compat.mmcv_ext import compiled_mmcv

# isort: split
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction  # after det_distill

pytestmark = pytest.mark.skipif(compiled_mmcv(), reason="a compiled mmcv is installed; its kernels are not ours")
SHAPES = torch.tensor([[3, 4], [2, 2]])
STARTS = torch.tensor([0, 12])


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, two heads of three channels, two queries of three points a level; some points lie outside."""
    g = torch.Generator().manual_seed(0)
    value = torch.randn(2, 16, 2, 3, generator=g, dtype=torch.float64)
    where = torch.rand(2, 2, 2, 2, 3, 2, generator=g, dtype=torch.float64) * 1.4 - 0.2
    much = torch.rand(2, 2, 2, 2, 3, generator=g, dtype=torch.float64)
    return value.to(dtype), where.to(dtype), much.to(dtype)


def attend(value: Tensor, where: Tensor, much: Tensor) -> Tensor:
    out: Tensor = MultiScaleDeformableAttnFunction.apply(value, SHAPES, STARTS, where, much, 64)
    return out


def test_a_query_is_the_weighted_sum_of_its_points_by_hand():
    value, where, much = inputs()
    found = attend(value, where, much)
    assert found.shape == (2, 2, 6)
    for image, query, head, channel in torch.cartesian_prod(*(torch.arange(n) for n in (2, 2, 2, 3))).tolist():
        total = 0.0
        for level, ((height, width), start) in enumerate(zip(SHAPES.tolist(), STARTS.tolist(), strict=True)):
            for point in range(3):
                x, y = where[image, query, head, level, point].tolist()
                x, y = x * width - 0.5, y * height - 0.5
                for i in (math.floor(y), math.floor(y) + 1):
                    for j in (math.floor(x), math.floor(x) + 1):
                        if 0 <= i < height and 0 <= j < width:
                            near = (1 - abs(y - i)) * (1 - abs(x - j)) * much[image, query, head, level, point].item()
                            total += near * value[image, start + i * width + j, head, channel].item()
        assert found[image, query, 3 * head + channel].item() == pytest.approx(total, abs=1e-12)


def test_its_gradients_are_those_of_small_steps():
    assert gradcheck(attend, [one.requires_grad_() for one in inputs()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype):
    args = inputs(dtype)
    found = attend(*args)
    assert found.dtype == dtype
    assert torch.equal(found, attend(*(one.float() for one in args)).to(dtype))
