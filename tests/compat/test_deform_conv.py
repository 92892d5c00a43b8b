"""mmcv's deformable convolutions over torchvision, judged one output value at a time."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from det_distill.compat import kernels
from det_distill.compat.mmcv_ext import compiled_mmcv

# isort: split
from mmcv import ops  # after det_distill, which serves the kernels it asks for

pytestmark = pytest.mark.skipif(compiled_mmcv(), reason="a compiled mmcv is installed; its kernels are not ours")


class Case(NamedTuple):
    """Geometry of one convolution; pairs are (vertical, horizontal)."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    deform_groups: int = 1
    kernel: tuple[int, int] = (3, 2)


CASES = {
    "plain": Case(),
    "padded": Case(padding=(1, 2)),
    "strided": Case(stride=(2, 1), padding=(1, 1)),
    "dilated": Case(dilation=(1, 2), padding=(2, 0)),
    "grouped": Case(groups=2),
    "deform groups": Case(deform_groups=2),
    "all at once": Case((2, 1), (1, 2), (1, 2), 2, 2, (2, 3)),
    "pointwise": Case(kernel=(1, 1)),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


class Inputs(NamedTuple):
    x: Tensor
    offset: Tensor
    mask: Tensor
    weight: Tensor
    bias: Tensor


def inputs(case: Case, seed: int = 0, requires_grad: bool = False) -> Inputs:
    """Random float64 tensors; offsets reach beyond the border."""
    g = torch.Generator().manual_seed(seed)
    height, width = sizes = (5, 6)
    height, width = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(sizes, case.padding, case.dilation, case.kernel, case.stride, strict=True)
    )
    taps = case.deform_groups * math.prod(case.kernel)
    tensors = (
        torch.randn(2, 4, *sizes, generator=g, dtype=torch.float64),
        torch.randn(2, 2 * taps, height, width, generator=g, dtype=torch.float64) * 1.5,
        torch.rand(2, taps, height, width, generator=g, dtype=torch.float64),
        torch.randn(4, 4 // case.groups, *case.kernel, generator=g, dtype=torch.float64),
        torch.randn(4, generator=g, dtype=torch.float64),
    )
    return Inputs(*(t.requires_grad_(requires_grad) for t in tensors))


def sample(plane: Tensor, y: float, x: float) -> float:
    """Bilinear value of an (H, W) plane that is 0 outside (eq. 3 of arXiv:1703.06211)."""
    total = 0.0
    for j, i in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= j < plane.shape[0] and 0 <= i < plane.shape[1]:
            total += (1 - abs(y - j)) * (1 - abs(x - i)) * plane[j, i].item()
    return total


def value_by_value(case: Case, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
    """y(p) = sum over taps of w * x(p + tap + offset) * mask (eq. 1 of arXiv:1811.11168)."""
    kernel_h, kernel_w = case.kernel
    per_group, per_deform = x.shape[1] // case.groups, x.shape[1] // case.deform_groups
    out_per_group = len(weight) // case.groups
    out = torch.zeros(len(x), len(weight), *offset.shape[2:], dtype=torch.float64)
    for b, o, p, q in itertools.product(*map(range, out.shape)):
        for c, j, i in itertools.product(range(per_group), range(kernel_h), range(kernel_w)):
            channel = (o // out_per_group) * per_group + c
            tap = (channel // per_deform) * kernel_h * kernel_w + j * kernel_w + i
            y = p * case.stride[0] - case.padding[0] + j * case.dilation[0] + offset[b, 2 * tap, p, q].item()
            z = q * case.stride[1] - case.padding[1] + i * case.dilation[1] + offset[b, 2 * tap + 1, p, q].item()
            modulation = 1.0 if mask is None else mask[b, tap, p, q].item()
            out[b, o, p, q] += weight[o, c, j, i].item() * sample(x[b, channel], y, z) * modulation
    return out


def conv(case: Case, x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return ops.deform_conv2d(x, offset, weight, *case[:5])


def modulated(case: Case, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *case[:5])


@cases
def test_deform_conv_equals_the_sum_over_taps(case: Case) -> None:
    x, offset, _, weight, _ = inputs(case)
    torch.testing.assert_close(conv(case, x, offset, weight), value_by_value(case, x, offset, None, weight))


@cases
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
def test_modulated_deform_conv_equals_the_weighted_sum_over_taps(case: Case, with_bias: bool) -> None:
    x, offset, mask, weight, bias = inputs(case)
    expected = value_by_value(case, x, offset, mask, weight)
    if with_bias:
        for channel in range(len(bias)):
            expected[:, channel] += bias[channel].item()
    out = modulated(case, x, offset, mask, weight, bias if with_bias else None)
    torch.testing.assert_close(out, expected)


@cases
def test_the_gradients_of_deform_conv_are_right(case: Case) -> None:
    x, offset, _, weight, _ = inputs(case, requires_grad=True)
    assert gradcheck(lambda *args: conv(case, *args), (x, offset, weight), fast_mode=True)


@cases
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
def test_the_gradients_of_modulated_deform_conv_are_right(case: Case, with_bias: bool) -> None:
    *tensors, bias = inputs(case, requires_grad=True)
    if with_bias:
        assert gradcheck(lambda *args: modulated(case, *args), (*tensors, bias), fast_mode=True)
    else:
        assert gradcheck(lambda *args: modulated(case, *args, None), tensors, fast_mode=True)


def test_every_entry_of_every_gradient_is_right() -> None:
    case = CASES["all at once"]
    x, offset, mask, weight, bias = (t[:1] if t.dim() == 4 else t for t in inputs(case))
    weight = inputs(case).weight
    leaves = [t.detach().clone().requires_grad_() for t in (x, offset, mask, weight, bias)]
    assert gradcheck(lambda *args: modulated(case, *args), leaves)
    assert gradcheck(lambda *args: conv(case, *args), (leaves[0], leaves[1], leaves[3]))


def test_without_offset_it_is_an_ordinary_convolution() -> None:
    x, offset, mask, weight, bias = inputs(CASES["padded"])
    plain = torch.nn.functional.conv2d(x, weight, bias, padding=CASES["padded"].padding)
    out = modulated(CASES["padded"], x, torch.zeros_like(offset), torch.ones_like(mask), weight, bias)
    torch.testing.assert_close(out, plain)


def read_by_address(maps: Tensor, height: int, width: int) -> Tensor:
    """As mmcv's kernel reads an image's offsets: at (tap * height + row) * width + column, sizes the output's."""
    out = torch.zeros(*maps.shape[:2], height, width, dtype=maps.dtype)
    for b, tap, p, q in itertools.product(*map(range, out.shape)):
        out[b, tap, p, q] = maps[b].flatten()[(tap * height + p) * width + q]
    return out


def test_offsets_of_a_larger_map_are_read_as_mmcv_reads_them() -> None:
    """DyHead has such at stride 2."""
    case, large = Case(stride=(2, 2), padding=(1, 1)), Case(padding=(1, 1))
    x, _, _, weight, bias = inputs(case)
    _, offset, mask, _, _ = inputs(large)
    height, width = inputs(case).offset.shape[2:]
    read = [read_by_address(one, height, width) for one in (offset, mask)]
    expected = value_by_value(case, x, *read, weight)
    torch.testing.assert_close(modulated(case, x, offset, mask, weight, None), expected)

    leaves = [one.detach().clone().requires_grad_() for one in (x, offset, mask, weight, bias)]
    assert gradcheck(lambda *args: modulated(case, *args), leaves, fast_mode=True)
    modulated(case, *leaves).sum().backward()
    assert leaves[1].grad.flatten(1)[:, : read[0][0].numel()].any()
    assert not leaves[1].grad.flatten(1)[:, read[0][0].numel() :].any()


def test_offsets_of_a_smaller_map_are_an_error() -> None:
    x, offset, mask, weight, bias = inputs(CASES["padded"])
    with pytest.raises(
        ValueError, match=r"deformable convolution: .* have cells \(3, 9\), fewer than the output's \(5, 9\)"
    ):
        modulated(CASES["padded"], x, offset[:, :, :3], mask[:, :, :3], weight, bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_fp32_and_cast_back(dtype: torch.dtype) -> None:
    case = CASES["all at once"]
    narrow = [t.to(dtype).requires_grad_() for t in inputs(case)]
    wide = [t.detach().float().requires_grad_() for t in narrow]
    for call, used in ((modulated, range(5)), (conv, (0, 1, 3))):
        out, reference = (call(case, *(leaves[i] for i in used)) for leaves in (narrow, wide))
        assert out.dtype == dtype
        assert out.equal(reference.to(dtype))

        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        found = torch.autograd.grad(out, [narrow[i] for i in used], grad)
        expected = torch.autograd.grad(reference, [wide[i] for i in used], grad.float())
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == dtype
            assert a.equal(b.to(dtype))


def test_the_gradient_of_the_weight_is_added_times_a_scale_that_is_one_unless_told_otherwise() -> None:
    x, offset, _, weight, _ = inputs(CASES["plain"])
    weight.requires_grad_()
    out = ops.deform_conv2d(x, offset, weight)
    (plain,) = torch.autograd.grad(out.sum(), weight)
    geometry = dict(kW=2, kH=3, dW=1, dH=1, padW=0, padH=0, dilationW=1, dilationH=1, group=1, deformable_group=1)
    for told, scale in (({}, 1), ({"scale": 3}, 3)):
        found = torch.full_like(plain, 10)
        kernels.deform_conv_backward_parameters(
            x, offset, torch.ones_like(out), found, x.new_zeros(0), x.new_zeros(0), **geometry, **told
        )
        torch.testing.assert_close(found, 10 + scale * plain)


def test_an_offset_that_is_no_number_makes_its_cell_none_and_no_other():
    """torchvision's kernel then reads beyond the map; DetectoRS, before its weights are drawn, dies of it."""
    given = inputs(CASES["padded"])
    case = CASES["padded"]
    args = given.weight, case.stride, case.padding, case.dilation, case.groups, case.deform_groups
    wanted = ops.deform_conv2d(given.x, given.offset, *args)
    offset = given.offset.clone()
    offset[0, 3, 1, 2] = torch.nan
    offset[0, 1, 0, 0] = torch.inf
    found = ops.deform_conv2d(given.x, offset, *args)
    wrong = ~found.isclose(wanted)
    assert wrong[0, :, 1, 2].all()
    assert found[0, :, 1, 2].isnan().all()
    wrong[0, :, 1, 2] = wrong[0, :, 0, 0] = False
    assert not wrong.any()
