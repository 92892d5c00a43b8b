"""Localisation distillation against sums done one bin at a time, and MMDetection's own loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.losses import KnowledgeDistillationKLDivLoss
from torch import Tensor

from det_distill.losses.localisation import localisation


def draw(n: int = 3, bins: int = 5, seed: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    student, teacher = 4 * torch.randn(2, n, 4, bins, generator=g, dtype=torch.float64)
    sure = torch.rand(n, generator=g, dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_(), sure.requires_grad_()


def bin_by_bin(student: Tensor, teacher: Tensor, sure: Tensor, images: int, temperature: float) -> float:
    """The formula in plain numbers; shares no code with the loss."""
    total = 0.0
    for own, its, c in zip(student.tolist(), teacher.tolist(), sure.tolist(), strict=True):
        for z_s, z_t in zip(own, its, strict=True):
            e_s, e_t = ([math.exp(z / temperature) for z in side] for side in (z_s, z_t))
            for s, t in zip(e_s, e_t, strict=True):
                p, q = s / sum(e_s), t / sum(e_t)
                total += c * q * math.log(q / p) / (4 * len(z_s))
    return temperature**2 * total / images


def test_gives_the_value_worked_out_by_hand():
    """One side off: 3/4 log(3/2) + 1/4 log(1/2), over 4 sides of 2 bins, a confidence of 0.5, two images."""
    teacher = torch.zeros(1, 4, 2, dtype=torch.float64)
    teacher[0, 2, 0] = math.log(3)
    found = localisation(torch.zeros_like(teacher), teacher, torch.tensor([0.5]), images=2, temperature=1.0)
    assert found.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 8 * 0.5 / 2, rel=1e-9)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.floats(0.5, 20), st.integers(0, 99))
def test_is_the_formula_bin_by_bin(n: int, bins: int, images: int, temperature: float, seed: int):
    tensors = draw(n, bins, seed)
    expected = bin_by_bin(*tensors, images, temperature)
    assert localisation(*tensors, images, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_is_mmdetection_s_but_for_the_images():
    student, teacher, sure = draw(6, 17)
    stock = KnowledgeDistillationKLDivLoss(loss_weight=0.25, T=10)
    weight = sure[:, None].expand(-1, 4).reshape(-1)
    expected = stock(student.reshape(-1, 17), teacher.reshape(-1, 17), weight=weight, avg_factor=4.0)
    torch.testing.assert_close(0.5 * localisation(student, teacher, sure, images=2, temperature=10.0), expected)


def test_gradients_are_right_and_go_to_the_student_alone():
    student, teacher, sure = draw()
    assert torch.autograd.gradcheck(lambda x: localisation(x, teacher, sure, 2, 3.0), student)
    localisation(student, teacher, sure, 2, 3.0).backward()
    assert student.grad.any()
    assert teacher.grad is None
    assert sure.grad is None


def test_is_least_where_the_two_agree():
    student, _, sure = draw()
    assert localisation(student, student + 3.0, sure, 1, 10.0).item() == pytest.approx(0, abs=1e-12)


def test_no_box_gives_a_zero_that_trains():
    student, teacher, sure = draw(0)
    value = localisation(student, teacher, sure, 2, 10.0)
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == student.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_computes_in_fp32_or_better(dtype: torch.dtype):
    student, teacher, sure = (one.detach().to(dtype) for one in draw())
    value = localisation(student, teacher, sure, 2, 10.0)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    expected = bin_by_bin(*(one.double() for one in (student, teacher, sure)), 2, 10.0)
    assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher", "sure", "said"),
    [
        ((3, 4, 5), (3, 4, 1), (3,), r"equal \(N, 4, R\) logits, got \(3, 4, 5\), \(3, 4, 1\)"),
        ((3, 5), (3, 5), (3,), r"equal \(N, 4, R\) logits"),
        ((3, 5, 4), (3, 5, 4), (3,), r"equal \(N, 4, R\) logits"),
        ((3, 4, 5), (3, 4, 5), (1,), r"a confidence \(N,\) of each of 3 boxes, got \(1,\)"),
    ],
)
def test_nothing_broadcasts(student, teacher, sure, said):
    with pytest.raises(ValueError, match=said):
        localisation(torch.zeros(student), torch.zeros(teacher), torch.zeros(sure), 1, 10.0)
