"""Adapters: sizes kept, channels changed, weights drawn as the paper's code draws them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmdet.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

import det_distill.plugins  # noqa: F401
from det_distill.adapters import ConvAdapter


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)], ids=str)
def test_keeps_the_size_and_gives_the_teachers_channels(size: tuple[int, int], kernel: int, relu: bool):
    adapter = ConvAdapter(student_channels=4, teacher_channels=7, kernel=kernel, relu=relu)
    x = torch.randn(2, 4, *size)
    out = adapter(x)
    assert out.shape == (2, 7, *size)
    plain = F.conv2d(F.pad(x, [kernel // 2] * 4), adapter.conv.weight, adapter.conv.bias)
    torch.testing.assert_close(out, plain.clamp(min=0) if relu else plain)


def test_a_signed_map_stays_signed_without_relu():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 6, 6)
    assert (ConvAdapter(4, 4)(x) < 0).any()
    assert (ConvAdapter(4, 4, relu=True)(x) >= 0).all()


def test_no_input_is_changed_in_place():
    x = torch.randn(1, 4, 3, 3)
    before = x.clone()
    ConvAdapter(4, 4, relu=True)(x)
    assert x.equal(before)


@pytest.mark.parametrize("std", [1e-4, 0.5])
def test_weights_are_normal_cut_at_two_deviations_and_the_bias_is_zero(std: float):
    torch.manual_seed(0)
    conv = ConvAdapter(64, 64, kernel=3, init_std=std).conv
    assert conv.weight.abs().max() <= 2 * std
    assert conv.weight.abs().max() > 1.9 * std  # 36,864 draws come near the cut
    # A standard normal cut at two deviations has a deviation of 0.8796 and is below one in 71.5 % of draws.
    assert conv.weight.std().item() == pytest.approx(0.8796 * std, rel=0.02)
    assert (conv.weight.abs() < std).float().mean().item() == pytest.approx(0.6827 / 0.9545, abs=0.01)
    assert conv.weight.mean().abs() < 0.02 * std
    assert not conv.bias.any()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("student", "teacher"), [(4, 7), (4, 4), (7, 4)])
def test_an_identity_passes_each_channel_on_under_its_number(student: int, teacher: int, kernel: int):
    adapter = ConvAdapter(student, teacher, kernel=kernel, identity=True)
    x = torch.randn(2, student, 5, 6)
    same = min(student, teacher)
    out = adapter(x)
    assert out[:, :same].equal(x[:, :same])
    assert not out[:, same:].any()
    out.sum().backward()
    assert adapter.conv.weight.grad.flatten(1).any(dim=1).all()  # the channels of 0 learn too


def test_an_identity_and_a_draw_exclude_each_other():
    with pytest.raises(ValueError, match=r"identity=True leaves nothing to draw, but init_std=0\.1; set one of them"):
        ConvAdapter(4, 7, identity=True, init_std=0.1)


def test_without_a_deviation_pytorchs_own_initialisation_stays():
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(4, 7, 3, padding=1)
    torch.manual_seed(0)
    assert ConvAdapter(4, 7).conv.weight.equal(plain.weight)


@pytest.mark.parametrize("kernel", [0, 2, 5, -1])
def test_other_kernels_are_refused(kernel: int):
    with pytest.raises(ValueError, match=rf"kernel={kernel}; .* 1 or 3"):
        ConvAdapter(4, 4, kernel=kernel)


def test_is_built_from_a_config():
    adapter = MODELS.build(dict(type="ConvAdapter", student_channels=2, teacher_channels=3, kernel=1))
    assert tuple(adapter.conv.weight.shape) == (3, 2, 1, 1)


@settings(deadline=None)
@given(on=arrays(bool, (2, 4, 5)).map(torch.from_numpy), kernel=st.sampled_from([1, 3]), relu=st.booleans())
def test_some_cells_are_those_of_the_whole_map_and_so_are_their_gradients(on: Tensor, kernel: int, relu: bool):
    torch.manual_seed(0)
    adapter = ConvAdapter(3, 4, kernel, relu).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    leaves = [x, *adapter.parameters()]
    whole = adapter(x).permute(0, 2, 3, 1)[on]
    some = adapter.at(x, on.nonzero(as_tuple=True))
    torch.testing.assert_close(some, whole)
    pull = torch.randn(whole.shape, dtype=torch.float64)
    expected, found = (torch.autograd.grad(one, leaves, pull) for one in (whole, some))
    torch.testing.assert_close(found, expected)


def test_a_batch_norm_needs_every_cell():
    assert ConvAdapter(3, 4).local
    assert not ConvAdapter(3, 4, norm=True).local
