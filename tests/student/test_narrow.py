"""A student of so many times the channels: against configs written by hand, and layer by layer."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import tiny
from det_distill.configs import load_config
from det_distill.student.model import student_model

PREDICTION = re.compile(r"_(cls|reg|obj|centerness)(\.\d+)?$")
STOCK = {
    "two stages": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "RetinaNet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "FCOS, caffe, group norm": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "ATSS": "atss/atss_r50_fpn_1x_coco.py",
    "GFL": "gfl/gfl_r50_fpn_1x_coco.py",
    "RTMDet": "rtmdet/rtmdet_s_8xb32-300e_coco.py",
    "YOLOX": "yolox/yolox_s_8xb8-300e_coco.py",
    "cascade": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
}


def written(name: str) -> Any:
    return Config.fromfile(tiny.MODELS_DIR / f"{name}.py").model


def narrow(model: Any, width: Any) -> dict[str, Any]:
    return student_model(dict(type="Distiller", student=dict(model=model, width=width)))


def test_half_of_a_pyramid_is_the_half_written_by_hand():
    assert narrow(written("faster-rcnn_r18_fpn"), 0.5) == written("faster-rcnn_r18-half_fpn64")


def test_half_of_a_c4_is_the_half_written_by_hand():
    model, half = written("faster-rcnn_r101_c4"), written("faster-rcnn_r101-half_c4")
    model.roi_head.shared_head = half.roi_head.shared_head | dict(base_channels=64)
    assert narrow(model, 0.5) | dict(backbone=narrow(model, 0.5)["backbone"] | dict(init_cfg=None)) == half


def test_half_of_an_rfcn_is_the_half_written_by_hand():
    assert narrow(tiny.rfcn(16), 0.5) == tiny.rfcn(8)


@pytest.mark.parametrize("name", STOCK.values(), ids=STOCK)
def test_every_layer_but_the_predictions_has_half_and_learns(name: str):
    model = load_config(f"mmdet::{name}", "config").model
    full, half = MODELS.build(model), MODELS.build(narrow(model, 0.5)).train()
    own = dict(half.named_modules())
    layers = [(path, one) for path, one in full.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    assert len(layers) > 50
    for path, layer in layers:
        (outs, ins), (mine, fed) = layer.weight.shape[:2], own[path].weight.shape[:2]
        assert mine == outs / 2 or (mine == outs and PREDICTION.search(path)), path
        image = fed == ins and ins in (3, 12) and path == layers[0][0]  # YOLOX lays four pixels side by side
        assert fed == ins / 2 or image or layer.groups == outs, path
    assert all(one.requires_grad for one in half.parameters())
    assert all(one.training for one in half.modules() if isinstance(one, _BatchNorm))


def test_it_begins_as_a_part_of_the_model_it_was_made_of(tmp_path: Path):
    model = tiny.faster_rcnn(16, 32)
    teacher = tiny.write_teacher(tmp_path, model)
    student = dict(config=teacher["config"], width=0.5)
    built = MODELS.build(tiny.distiller(student, teacher, init_cfg=dict(type="WeightSelection")))
    built.init_weights()
    saved = torch.load(teacher["checkpoint"])["state_dict"]
    for name, value in built.student.named_parameters():
        part = saved[name][tuple(slice(size) for size in value.shape)]
        if "shared_fcs.0" not in name:  # its inputs are channels times cells
            assert value.equal(part), name
    tiny.losses(built, tiny.batch())["loss_imitation"].backward()


def test_necks_in_a_row_are_narrowed_each():
    model = load_config("mmdet::dyhead/atss_r50_fpn_dyhead_1x_coco.py", "config").model
    pyramid, dynamic = narrow(model, 0.5)["neck"]
    assert (pyramid["in_channels"], pyramid["out_channels"]) == ([128, 256, 512, 1024], 128)
    assert (dynamic["in_channels"], dynamic["out_channels"]) == (128, 128)


def test_half_an_rtmdet_begins_as_a_part_of_it_and_learns(tmp_path: Path):
    model = load_config("mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py", "config").model
    model.backbone.init_cfg = None
    teacher = tiny.write_teacher(tmp_path, model)
    terms = dict(imitation=tiny.imitation() | dict(mask=dict(type="GtBoxMask")))
    student = dict(model=model, width=0.5)
    built = MODELS.build(tiny.distiller(student, teacher, terms=terms, init_cfg=dict(type="WeightSelection")))
    assert "154 of 154 layers" in built.inherit.told(built.student, built.teachers)
    tiny.losses(built, tiny.batch())["loss_imitation"].backward()
    assert built.student.backbone.stem[0].conv.weight.grad.any()


def test_one_is_the_model_as_it_is():
    model = tiny.faster_rcnn()
    assert narrow(model, 1) == model


def test_what_is_already_narrow_stays_so():
    model = narrow(tiny.faster_rcnn(), 0.5)
    assert student_model(model) == model


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (0.3, r"student.width=0.3: 64 channels by backbone.base_channels would be 19.2; .* whole ones is 0.296875"),
        (0.001, "is 0.015625$"),
        (0, "student.width=0; a number above 0 and at most 1"),
        (1.5, "at most 1"),
        (float("nan"), "at most 1"),
        (True, "at most 1"),
        ("half", "student.width='half'; a number"),
    ],
)
def test_no_such_width(width: Any, said: str):
    with pytest.raises(ValueError, match=said):
        narrow(load_config("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "config").model, width)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py", "roi_head.shared_head is a ResLayer.*ResNetStage"),
        (
            "yolo/yolov3_d53_8xb8-ms-608-273e_coco.py",
            "backbone.type='Darknet' is none of 'ResNet', 'ResNetV1d', 'CSPNeXt', 'CSPDarknet'",
        ),
    ],
)
def test_no_such_model(name: str, said: str):
    with pytest.raises(ValueError, match=said):
        narrow(load_config(f"mmdet::{name}", "config").model, 0.5)


@pytest.mark.parametrize("wrong", [None, "wide", True, {"a": 1}, [16, "wide"]], ids=str)
def test_what_is_no_number_of_channels_is_left_to_who_builds_it(wrong: Any):
    model = tiny.faster_rcnn()
    model.neck.out_channels = wrong
    assert narrow(model, 0.5)["neck"]["out_channels"] == wrong


def test_a_factor_may_be_whole_and_must_be_a_number():
    model = load_config("mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py", "config").model
    assert (
        narrow(model | dict(backbone=model.backbone | dict(widen_factor=1)), 0.25)["backbone"]["widen_factor"] == 0.25
    )
    wrong = model | dict(backbone=model.backbone | dict(widen_factor="wide"))
    assert narrow(wrong, 0.25)["backbone"]["widen_factor"] == "wide"
    with pytest.raises(ValueError, match=r"32 channels by backbone.widen_factor would be 9.6; .* is 0.3125"):
        narrow(model, 0.3)


def test_without_a_backbone_there_is_no_width():
    for backbone in (None, "ResNet"):
        with pytest.raises(ValueError, match=r"backbone.type='' is none of 'ResNet'"):
            narrow(dict(type="FasterRCNN", backbone=backbone), 0.5)


def test_a_misspelt_width_is_named():
    with pytest.raises(ValueError, match=r"student.widht is unknown, did you mean 'width'\?"):
        student_model(dict(type="Distiller", student=dict(model=tiny.faster_rcnn(), widht=0.5)))
