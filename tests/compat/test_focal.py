"""mmcv's sigmoid focal loss over torch, judged one logit at a time."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from det_distill.compat.mmcv_ext import compiled_mmcv

# isort: split
from mmcv import ops  # after det_distill, which serves the kernels it asks for

pytestmark = pytest.mark.skipif(compiled_mmcv(), reason="a compiled mmcv is installed; its kernels are not ours")

C = 3
TARGET = torch.tensor([0, 2, C, 1, C, 0])  # C is background
LOGITS = torch.randn(len(TARGET), C, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 3
WEIGHT = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)


def logit_by_logit(logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t (Lin et al., arXiv:1708.02002, eq. 5)."""
    out = torch.zeros_like(logits)
    for n, c in itertools.product(*map(range, logits.shape)):
        p = 1 / (1 + math.exp(-logits[n, c].item()))
        p_t, alpha_t = (p, alpha) if target[n] == c else (1 - p, 1 - alpha)
        scale = 1.0 if weight is None or target[n] == C else weight[target[n]].item()
        out[n, c] = -scale * alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return out


@given(
    rows=st.lists(st.tuples(st.lists(st.floats(-8, 8), min_size=C, max_size=C), st.integers(0, C)), max_size=6),
    gamma=st.floats(0, 5),
    alpha=st.floats(0, 1),
    weight=st.none() | st.lists(st.floats(0, 4), min_size=C, max_size=C),
)
@settings(max_examples=100, deadline=None)
def test_equals_the_formula_logit_by_logit(
    rows: list[tuple[list[float], int]], gamma: float, alpha: float, weight: list[float] | None
) -> None:
    logits = torch.tensor([row for row, _ in rows], dtype=torch.float64).reshape(-1, C)
    target = torch.tensor([t for _, t in rows], dtype=torch.long)
    per_class = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    out = ops.sigmoid_focal_loss(logits, target, gamma, alpha, per_class, "none")
    torch.testing.assert_close(out, logit_by_logit(logits, target, gamma, alpha, per_class), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_mean_divides_by_the_rows_not_by_the_logits(weight: Tensor | None) -> None:
    total = logit_by_logit(LOGITS, TARGET, 2.0, 0.25, weight).sum()
    torch.testing.assert_close(ops.sigmoid_focal_loss(LOGITS, TARGET, 2.0, 0.25, weight, "sum"), total)
    torch.testing.assert_close(ops.sigmoid_focal_loss(LOGITS, TARGET, 2.0, 0.25, weight, "mean"), total / len(TARGET))
    torch.testing.assert_close(ops.SigmoidFocalLoss(2.0, 0.25, weight)(LOGITS, TARGET), total / len(TARGET))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_is_right(gamma: float, weight: Tensor | None, reduction: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    if reduction == "none":  # mmcv multiplies by the incoming gradient entry by entry
        assert gradcheck(lambda x: ops.sigmoid_focal_loss(x, TARGET, gamma, 0.3, weight, "none"), logits)
    else:
        assert gradcheck(lambda x: 3 * ops.sigmoid_focal_loss(x, TARGET, gamma, 0.3, weight, reduction), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [40.0, 1e4])
def test_saturated_logits_stay_finite(size: float, gamma: float) -> None:
    logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([0, 0]), gamma, 0.25, None, "sum")
    loss.backward()
    # The first row is right and costs nothing; the second is wrong by `size` twice: (0.25 + 0.75) * size.
    assert loss.item() == pytest.approx(size)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-0.25, 0.75]]))


def test_no_rows_give_a_zero_that_differentiates() -> None:
    logits = torch.zeros(0, C, requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum")
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == (0, C)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_fp32_and_cast_back(dtype: torch.dtype) -> None:
    narrow = LOGITS.to(dtype).requires_grad_()
    wide = narrow.detach().float().requires_grad_()
    weight = WEIGHT.to(dtype)
    out = ops.sigmoid_focal_loss(narrow, TARGET, 2.0, 0.25, weight, "none")
    reference = ops.sigmoid_focal_loss(wide, TARGET, 2.0, 0.25, weight.float(), "none")
    assert out.dtype == dtype
    assert out.equal(reference.to(dtype))

    out.sum().backward()
    reference.sum().backward()
    assert narrow.grad.dtype == dtype
    assert narrow.grad.equal(wide.grad.to(dtype))
