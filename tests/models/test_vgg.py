"""VGG as torchvision builds it, at any width."""

import det_distill.plugins  # noqa: F401  (before mmdet: it serves mmcv's operators)

# isort: split
import pytest
import torch
import torchvision
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import nn

from det_distill.models.res_stage import ResNetStage
from det_distill.models.vgg import VGGBackbone, VGGClassifier


@pytest.fixture(scope="module")
def torchvision_vgg11():
    """torchvision's VGG11, biases drawn too, since they start as zeros there."""
    torch.manual_seed(0)
    model = torchvision.models.vgg11(weights=None).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="module")
def checkpoint(torchvision_vgg11, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg11.pth"
    torch.save(torchvision_vgg11.state_dict(), path)
    return dict(type="Pretrained", checkpoint=str(path))


def every_block(model, image):
    """What torchvision computes just before each of its five pools."""
    maps = []
    for layer in model.features:
        if isinstance(layer, nn.MaxPool2d):
            maps.append(image)
        image = layer(image).clone()
    return maps


def test_torchvision_weights_give_torchvision_maps(torchvision_vgg11, checkpoint):
    backbone = VGGBackbone(11, out_indices=(0, 1, 2, 3, 4), init_cfg=checkpoint)
    backbone.init_weights()
    image = torch.randn(2, 3, 50, 70)
    with torch.no_grad():
        found, expected = backbone(image), every_block(torchvision_vgg11, image)
    assert [m.shape[1] for m in found] == [64, 128, 256, 512, 512]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_torchvision_weights_give_torchvision_fc7(torchvision_vgg11, checkpoint):
    head = VGGClassifier(init_cfg=checkpoint).eval()
    head.init_weights()
    rois = torch.randn(3, 512, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(head(rois), torchvision_vgg11.classifier[:-1](rois.flatten(1)))
        assert head(rois[:0]).shape == (0, 4096)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_every_torchvision_feature_key_has_a_home(depth):
    with torch.device("meta"):
        ours = VGGBackbone(depth).state_dict()
        theirs = getattr(torchvision.models, f"vgg{depth}")(weights=None).state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if key.startswith("features.")}
    assert {key: value.shape for key, value in ours.items()} == shapes


@pytest.mark.parametrize("k", range(6))
def test_width_scales_every_layer(k):
    maps = VGGBackbone(11, width=1 / 2**k, out_indices=range(5)).to("meta")(torch.zeros(1, 3, 64, 32, device="meta"))
    assert [m.shape[1] * 2**k for m in maps] == [64, 128, 256, 512, 512]
    assert [(64 // m.shape[2], 32 // m.shape[3]) for m in maps] == [(s, s) for s in (1, 2, 4, 8, 16)]


def test_maps_are_a_tuple_even_when_there_is_one():
    (only,) = VGGBackbone(11, width=1 / 32)(torch.zeros(1, 3, 32, 32))
    assert only.shape == (1, 16, 2, 2)


@pytest.mark.parametrize("width", [1 / 32, 1 / 16])
def test_frozen_blocks_get_no_gradient_and_the_others_do(width):
    backbone = VGGBackbone(16, width=width, frozen_stages=2)
    backbone(torch.randn(1, 3, 32, 32))[0].sum().backward()
    frozen = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
    first_four = {f"features.{layer}.{kind}" for layer in (0, 2, 5, 7) for kind in ("weight", "bias")}
    assert frozen == first_four  # conv1_1, conv1_2, conv2_1, conv2_2 in torchvision's numbering


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(depth=12), "depth: found 12, expected one of 11, 13, 16, 19; nearest: 11"),
        (dict(depth=11, width=0.3), "width: found 0.3, .*; nearest: 0.25"),
        (dict(depth=11, out_indices=(5,)), "out_indices: found 5, .*; nearest: 4"),
        (dict(depth=11, frozen_stages=-1), "frozen_stages: found -1, .*; nearest: 0"),
        (
            dict(depth=11, width=0.5, init_cfg=dict(type="Pretrained", checkpoint="torchvision://vgg11")),
            "width: found 0.5, expected 1 to load torchvision://vgg11",
        ),
    ],
)
def test_a_mistake_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VGGBackbone(**arguments)


def test_every_part_is_registered_under_its_name():
    names = ("VGGBackbone", "VGGClassifier", "ResNetStage")
    assert [MODELS.get(name) for name in names] == [VGGBackbone, VGGClassifier, ResNetStage]


def test_resnet_stage_at_full_width_is_mmdetections_own():
    theirs, ours = ResLayer(50, style="caffe"), ResNetStage(50, style="caffe")
    theirs.eval()  # returns nothing there
    ours.eval()
    ours.load_state_dict(theirs.state_dict())  # strict
    rois = torch.randn(2, 1024, 6, 6)
    with torch.no_grad():
        assert ours(rois).equal(theirs(rois))


def test_resnet_stage_scales_with_the_base_width():
    stage = ResNetStage(101, base_channels=4, norm_eval=False)
    assert stage(torch.randn(2, 64, 14, 14)).shape == (2, 128, 7, 7)


@pytest.mark.parametrize("norm_eval", [True, False])
def test_norm_eval_decides_whether_statistics_move(norm_eval):
    stage = ResNetStage(50, base_channels=4, norm_eval=norm_eval).train()
    before = stage.layer4[0].bn1.running_mean.clone()
    stage(torch.randn(2, 64, 4, 4))
    assert stage.layer4[0].bn1.running_mean.equal(before) is norm_eval


def test_a_resnet_without_bottlenecks_is_refused():
    with pytest.raises(ValueError, match="ResNetStage depth: found 18, expected 50, 101 or 152"):
        ResNetStage(18)
