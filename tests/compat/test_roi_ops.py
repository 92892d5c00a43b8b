"""mmcv's RoIAlign and RoIPool over torchvision, judged sample by sample and cell by cell."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from det_distill.compat.mmcv_ext import compiled_mmcv

# isort: split
from mmcv import ops  # after det_distill, which serves the kernels it asks for

pytestmark = pytest.mark.skipif(compiled_mmcv(), reason="a compiled mmcv is installed; its kernels are not ours")

# (image, x1, y1, x2, y2) in pixels: inside, over each edge, tiny, empty, wholly outside
ROIS = torch.tensor(
    [
        [0.0, 1.3, 2.1, 9.7, 12.4],
        [1.0, -6.0, -3.2, 7.5, 8.0],
        [1.0, 5.1, 4.0, 31.0, 22.6],
        [0.0, 3.3, 3.4, 3.9, 4.1],
        [0.0, 6.0, 6.0, 6.0, 6.0],
        [1.0, 90.0, 90.0, 99.0, 99.0],
    ],
    dtype=torch.float64,
)
SCALES = [1.0, 0.5, 0.0625]
SIZES = [(1, 1), (2, 3), (7, 7)]


def feature_map(seed: int = 0, shape: tuple[int, ...] = (2, 3, 8, 10)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """Value of an (H, W) plane between its cells: flat for one cell beyond the border, then 0."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    total = 0.0
    for j, i in itertools.product(range(height), range(width)):
        total += max(0.0, 1 - abs(y - j)) * max(0.0, 1 - abs(x - i)) * plane[j, i].item()
    return total


def align_by_sample(x: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool) -> Tensor:
    """Mean of bilinear samples on a regular grid in every bin (He et al., arXiv:1703.06870, section 3)."""
    out = torch.zeros(len(rois), x.shape[1], *size, dtype=torch.float64)
    for n, (image, *edges) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (edge * scale - (0.5 if aligned else 0.0) for edge in edges)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bin_h, bin_w = height / size[0], width / size[1]
        rows, cols = (ratio, ratio) if ratio > 0 else (math.ceil(bin_h), math.ceil(bin_w))
        for c, p, q in itertools.product(range(x.shape[1]), range(size[0]), range(size[1])):
            samples = [
                bilinear(x[int(image), c], y1 + (p + (j + 0.5) / rows) * bin_h, x1 + (q + (i + 0.5) / cols) * bin_w)
                for j, i in itertools.product(range(rows), range(cols))
            ]
            out[n, c, p, q] = sum(samples) / len(samples) if samples else 0.0
    return out


def pool_by_cell(x: Tensor, rois: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """Maximum over the cells a bin touches; the RoI ends after its last pixel.

    Source: mmcv's own definition, open-mmlab/mmcv@86d50f1, csrc/common/cuda/roi_pool_cuda_kernel.cuh.
    """
    height, width = x.shape[2:]
    out = torch.zeros(len(rois), x.shape[1], *size, dtype=torch.float64)
    for n, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        if x2 <= x1 or y2 <= y1:
            continue
        bin_h, bin_w = (y2 - y1) / size[0], (x2 - x1) / size[1]
        for c, p, q in itertools.product(range(x.shape[1]), range(size[0]), range(size[1])):
            rows = range(max(0, math.floor(p * bin_h + y1)), min(height, math.ceil((p + 1) * bin_h + y1)))
            cols = range(max(0, math.floor(q * bin_w + x1)), min(width, math.ceil((q + 1) * bin_w + x1)))
            values = [x[int(image), c, j, i].item() for j, i in itertools.product(rows, cols)]
            out[n, c, p, q] = max(values) if values else 0.0
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_roi_align_is_the_mean_of_bilinear_samples(
    size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> None:
    x = feature_map(shape=(2, 2, 6, 7))
    expected = align_by_sample(x, ROIS, size, scale, ratio, aligned)
    torch.testing.assert_close(ops.roi_align(x, ROIS, size, scale, ratio, "avg", aligned), expected)
    torch.testing.assert_close(ops.RoIAlign(size, scale, ratio, "avg", aligned)(x, ROIS), expected)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_of_roi_align_is_right(scale: float, ratio: int, aligned: bool) -> None:
    x = feature_map(shape=(2, 2, 5, 6)).requires_grad_()
    assert gradcheck(lambda x: ops.roi_align(x, ROIS, (2, 3), scale, ratio, "avg", aligned), x)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_roi_pool_is_the_maximum_over_the_cells_a_bin_touches(size: tuple[int, int], scale: float) -> None:
    x = feature_map()
    expected = pool_by_cell(x, ROIS, size, scale)
    assert ops.roi_pool(x, ROIS, size, scale).equal(expected)
    assert ops.RoIPool(size, scale)(x, ROIS).equal(expected)


@pytest.mark.parametrize("seed", range(10))
def test_roi_pool_agrees_on_random_rois(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(12, 2, generator=g, dtype=torch.float64) * 24 - 4
    side = torch.rand(12, 2, generator=g, dtype=torch.float64) * 20 - 2  # some end before they start
    image = torch.randint(0, 2, (12, 1), generator=g).double()
    rois = torch.cat((image, corner, corner + side), dim=1)
    x = feature_map(seed) - 5  # negative everywhere: an empty bin's 0 stands out
    assert ops.roi_pool(x, rois, (3, 2), 0.5).equal(pool_by_cell(x, rois, (3, 2), 0.5))


@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_of_roi_pool_is_right_without_ties(scale: float) -> None:
    order = torch.randperm(2 * 2 * 5 * 6, generator=torch.Generator().manual_seed(3))
    x = (order.double() * 0.01).reshape(2, 2, 5, 6).requires_grad_()  # gaps far above gradcheck's step
    assert gradcheck(lambda x: ops.roi_pool(x, ROIS, (2, 3), scale), x)


@pytest.mark.parametrize(
    "edges", [(5.0, 5.0, 2.0, 2.0), (5.5, 1.0, 4.5, 4.0), (1.0, 5.5, 4.0, 4.5)], ids=["before", "0 wide", "0 high"]
)
def test_a_roi_that_ends_no_later_than_it_starts_pools_to_zero_without_gradient(edges: tuple[float, ...]) -> None:
    x = (feature_map() + 9).requires_grad_()  # the last two start amid a cell, which a bin of no size touches
    out = ops.roi_pool(x, torch.tensor([[0.0, *edges]], dtype=torch.float64), (2, 2), 1.0)
    out.sum().backward()
    assert not out.any()
    assert not x.grad.any()


@pytest.mark.parametrize("op", ["roi_align", "roi_pool"])
def test_no_rois_give_an_empty_result_and_a_zero_gradient(op: str) -> None:
    x = feature_map().requires_grad_()
    out = getattr(ops, op)(x, x.new_zeros(0, 5), (7, 7), 0.5)
    out.sum().backward()
    assert out.shape == (0, 3, 7, 7)
    assert not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", ["roi_align", "roi_pool"])
def test_half_precision_is_computed_in_fp32_and_cast_back(op: str, dtype: torch.dtype) -> None:
    narrow = feature_map().to(dtype).requires_grad_()
    wide = narrow.detach().float().requires_grad_()
    rois = ROIS.to(dtype)
    out, reference = (getattr(ops, op)(x, r, (2, 3), 0.5) for x, r in ((narrow, rois), (wide, rois.float())))
    assert out.dtype == dtype
    assert out.equal(reference.to(dtype))

    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    out.backward(grad)
    reference.backward(grad.float())
    assert narrow.grad.dtype == dtype
    assert narrow.grad.equal(wide.grad.to(dtype))


@pytest.mark.parametrize("op", ["roi_align", "roi_pool"])
def test_a_transposed_gradient_is_read_by_its_strides(op: str) -> None:
    x = feature_map().requires_grad_()
    out = getattr(ops, op)(x, ROIS, (3, 3), 0.5)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (plain,) = torch.autograd.grad(out, x, grad, retain_graph=True)
    (turned,) = torch.autograd.grad(out.transpose(2, 3), x, grad.transpose(2, 3).contiguous())
    assert turned.equal(plain)


def test_the_default_device_has_no_say() -> None:
    x = feature_map()
    expected = ops.roi_pool(x, ROIS, (2, 3), 0.5)
    with torch.device("meta"):  # holds no numbers, so a grid of bins that is made there pools nothing
        assert ops.roi_pool(x, ROIS, (2, 3), 0.5).equal(expected)


def test_max_mode_of_roi_align_raises_and_names_a_way_out() -> None:
    with pytest.raises(NotImplementedError, match=r"compiled mmcv.*Use pool_mode='avg'"):
        ops.roi_align(feature_map(), ROIS, (2, 2), 1.0, 0, "max")
