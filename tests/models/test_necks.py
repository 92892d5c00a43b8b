"""Necks: twice the resolution, and features on a grid under the inner neck's own names."""

import det_distill.plugins  # noqa: F401  (before mmdet: it serves mmcv's operators)

# isort: split
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.runner import load_state_dict
from mmengine.runner.checkpoint import get_state_dict
from torch import nn

import tiny
from det_distill.models.necks import QuantisedNeck, UpsampleNeck

FPN = dict(type="FPN", in_channels=[4, 8], out_channels=6, num_outs=3)


def backbone_maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(3 * torch.randn(2, c, s, s, generator=generator) for c, s in ((4, 8), (8, 4)))


def by_hand(one, deconvolution, convolution):
    """Each cell paints its 4x4 patch, two cells apart, and the rim is cut; then ReLU, and a sum over 3x3."""
    channels, height, width = one.shape
    painted = torch.zeros(deconvolution.weight.shape[1], 2 * height + 2, 2 * width + 2)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                painted[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += one[c, y, x] * deconvolution.weight[c]
    raised = (painted[:, 1:-1, 1:-1] + deconvolution.bias[:, None, None]).clamp(min=0)
    padded = torch.zeros(len(raised), 2 * height + 2, 2 * width + 2)
    padded[:, 1:-1, 1:-1] = raised
    out = torch.zeros(len(convolution.weight), 2 * height, 2 * width)
    for y in range(2 * height):
        for x in range(2 * width):
            patch = padded[:, y : y + 3, x : x + 3]
            out[:, y, x] = (convolution.weight * patch).sum(dim=(1, 2, 3)) + convolution.bias
    return out


# ------------------------------------------------------------ twice the resolution


def test_upsampling_is_deconvolution_relu_and_convolution_by_hand():
    torch.manual_seed(0)
    neck = UpsampleNeck(3, 5)
    nn.init.normal_(neck.levels[0][0].bias)
    one = torch.randn(1, 3, 4, 6)
    with torch.no_grad():
        (found,) = neck((one,))
        expected = by_hand(one[0], neck.levels[0][0], neck.levels[0][2])
    assert found.shape == (1, 5, 8, 12)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)


def test_it_is_second_in_a_list_of_necks_with_weights_of_its_own_per_level():
    torch.manual_seed(0)
    fpn, both = (
        MODELS.build(FPN),
        MODELS.build([FPN, dict(type="UpsampleNeck", in_channels=6, out_channels=6, levels=3)]),
    )
    found = both(backbone_maps())
    assert [m.shape for m in found] == [(2, 6, 2 * m.shape[2], 2 * m.shape[3]) for m in fpn(backbone_maps())]
    for level in range(3):
        both.zero_grad()
        both(backbone_maps())[level].sum().backward()
        touched = [any(p.grad is not None and p.grad.any() for p in own.parameters()) for own in both[1].levels]
        assert touched == [index == level for index in range(3)]


def test_a_detector_learns_with_it_and_has_its_anchors_on_the_finer_grid():
    model = tiny.c4()
    model.neck = dict(type="UpsampleNeck", in_channels=32, out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.rpn_head.anchor_generator.strides = [8]
    model.roi_head.bbox_roi_extractor.update(out_channels=16, featmap_strides=[8])
    model.roi_head.bbox_head.in_channels = 16
    torch.manual_seed(0)
    detector = MODELS.build(model)
    total, _ = detector.parse_losses(tiny.losses(detector, tiny.batch()))
    total.backward()
    assert total.isfinite()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in detector.neck.parameters())


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ((4, 4), "UpsampleNeck levels: found 1, expected 2"),
        ((8,), r"UpsampleNeck in_channels: found 4, expected 8, the maps' channels"),
    ],
)
def test_maps_that_do_not_fit_are_named(maps, message):
    with pytest.raises(ValueError, match=message):
        UpsampleNeck(4, 4)([torch.zeros(1, channels, 2, 2) for channels in maps])


# ------------------------------------------------------------ on a grid


def nearest_in_grid(value, step, signed):
    """The nearest multiple by trying them all; of two equally near, the lower."""
    grid = [step * n for n in range(-400 if signed else 0, 400)]
    return min(grid, key=lambda point: (abs(point - value), point))


@pytest.mark.parametrize(("step", "signed"), [(1.0, False), (0.5, True)])
@pytest.mark.parametrize("inner", [None, FPN], ids=["backbone", "FPN"])
def test_every_value_is_the_nearest_of_the_grid(inner, step, signed):
    torch.manual_seed(0)
    neck = QuantisedNeck(inner, step, signed)
    with torch.no_grad():
        plain = neck.inner(backbone_maps())
        for found, before in zip(neck(backbone_maps()), plain, strict=True):
            expected = [nearest_in_grid(value, step, signed) for value in before.flatten().tolist()]
            assert found.flatten().tolist() == pytest.approx(expected)


def test_the_gradient_is_that_of_the_inner_neck():
    torch.manual_seed(0)
    neck, weights = QuantisedNeck(FPN), torch.randn(2, 6, 8, 8)
    (neck(backbone_maps())[0] * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in neck.inner.named_parameters() if p.grad is not None}
    neck.zero_grad()
    (neck.inner(backbone_maps())[0] * weights).sum().backward()
    assert found
    assert all(
        found[name].equal(p.grad) for name, p in neck.inner.named_parameters() if p.grad is not None and name in found
    )


@pytest.mark.parametrize(
    "inner", [FPN, [FPN, dict(type="UpsampleNeck", in_channels=6, out_channels=6, levels=3)]], ids=["one", "list"]
)
def test_its_weights_have_the_inner_neck_s_names_both_ways(inner):
    plain, quantised = MODELS.build(inner), QuantisedNeck(inner)
    assert list(quantised.state_dict()) == list(plain.state_dict())
    assert set(plain.state_dict()._metadata) <= set(quantised.state_dict()._metadata)
    quantised.load_state_dict(plain.state_dict())  # strict
    for before, after in zip(plain.parameters(), quantised.parameters(), strict=True):
        assert before.equal(after)
    plain.load_state_dict(quantised.state_dict())


def test_the_backbone_s_maps_need_no_weights():
    neck = QuantisedNeck()
    assert not neck.state_dict()
    neck.load_state_dict({})


def test_a_detector_s_checkpoint_of_full_precision_loads_and_goes_back():
    plain_cfg = tiny.faster_rcnn()
    cfg = copy.deepcopy(plain_cfg)
    cfg.neck = dict(type="QuantisedNeck", inner=cfg.neck, step=0.5, signed=True)
    torch.manual_seed(1)
    plain, quantised = MODELS.build(plain_cfg), MODELS.build(cfg)
    image = torch.randn(1, 3, 64, 64)
    for read in (nn.Module.state_dict, get_state_dict):  # torch's way, and the walk of MMEngine's checkpoints
        assert list(read(quantised)) == list(read(plain))
    load_state_dict(quantised, get_state_dict(plain), strict=True)
    plain.eval()
    quantised.eval()
    with torch.no_grad():
        for found, before in zip(quantised.extract_feat(image), plain.extract_feat(image), strict=True):
            assert not found.equal(before)
            assert ((found - before).abs() <= 0.25 + 1e-6).all()
    load_state_dict(plain, get_state_dict(quantised), strict=True)
    with pytest.raises(RuntimeError, match="neck"):
        quantised.load_state_dict({key: value for key, value in plain.state_dict().items() if "fpn_convs" not in key})


def test_initialisation_reaches_the_inner_neck():
    def initialised(cfg):
        torch.manual_seed(3)
        neck = MODELS.build(cfg)
        torch.manual_seed(4)
        neck.init_weights()
        return neck.state_dict()

    found, expected = initialised(dict(type="QuantisedNeck", inner=FPN)), initialised(FPN)
    assert all(found[key].equal(value) for key, value in expected.items())


def test_a_step_of_nothing_is_refused():
    with pytest.raises(ValueError, match="step=0"):
        QuantisedNeck(step=0)


def test_every_neck_is_registered_under_its_name():
    assert [MODELS.get(name) for name in ("UpsampleNeck", "QuantisedNeck")] == [UpsampleNeck, QuantisedNeck]
