"""The published pairs of Wang et al. (2019) are wired as the paper and its code say; nothing is trained or fetched."""

import det_distill.plugins  # noqa: F401  (before mmdet: it serves mmcv's operators)

# isort: split
import ast
import copy
from functools import cache
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet import datasets
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

ROOT = Path(__file__).parents[1]
PAIRS = sorted(
    path.stem for family in ("voc0712", "coco", "kitti") for path in (ROOT / "configs/fgfi").glob(f"{family}_*.py")
)
SINGLE_LEVEL = [name for name in PAIRS if name.startswith("voc0712_")]
FPN = [name for name in PAIRS if not name.startswith("voc0712_")]
CLASSES = dict(
    voc0712=datasets.VOCDataset.METAINFO["classes"],
    coco=datasets.CocoDataset.METAINFO["classes"],
    kitti=("Car", "Pedestrian", "Cyclist"),
)


@cache
def read(path):
    return Config.fromfile(path, import_custom_modules=False)


def pair(name):
    return read(ROOT / f"configs/fgfi/{name}.py")


def teacher_model(name):
    path = pair(name).model.teacher.config
    if not path.startswith("mmdet::"):
        return read(ROOT / path).model
    return read(Path(mmdet.__file__).parent / ".mim/configs" / path.removeprefix("mmdet::")).model


def both_models(name):
    return dict(student=pair(name).model.student, teacher=teacher_model(name))


@cache
def build(name, side):
    """On the meta device: shapes without memory or arithmetic, and no weight is initialised, so none is fetched."""
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        return MODELS.build(copy.deepcopy(both_models(name)[side]))


def tap(name, side):
    """The maps that the pair's term compares, of one image of 128x128."""
    model = build(name, side)
    image = torch.zeros(1, 3, 128, 128, device="meta")
    with torch.no_grad():
        maps = model.backbone(image)
        return model.neck(maps) if pair(name).model.terms.imitation.tap == "neck" else maps


def leaf_dataset(config):
    """The innermost data set, below Repeat- and ConcatDataset."""
    while "dataset" in config or "datasets" in config:
        config = config["dataset"] if "dataset" in config else config["datasets"][0]
    return config


def test_every_published_pair_we_promise_is_here():
    assert PAIRS == [
        "coco_r50_r50-half",
        "kitti_r50_r50-half",
        "voc0712_r101_r101-half",
        "voc0712_r101_r50",
        "voc0712_vgg16_vgg11",
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_the_numbers_are_the_code_s(name):
    config = pair(name)
    assert config.model.type == "Distiller"
    assert set(config.model.terms) == {"imitation"}
    term = config.model.terms.imitation
    assert (term.type, term.mask.type, term.adapter.type) == ("FeatureImitation", "AnchorIoUMask", "ConvAdapter")
    assert (term.mask.psi, term.weight) == (0.5, 0.01)
    assert (term.adapter.kernel, term.adapter.init_std) == (3, 1e-4)
    assert term.schedule == dict(type="Window", begin=400)
    assert config.optim_wrapper.clip_grad == dict(max_norm=10)
    assert {hook.type for hook in config.custom_hooks} >= {"AdapterStateHook", "ExactResumeHook"}


@pytest.mark.parametrize("name", SINGLE_LEVEL)
def test_single_level_pairs_compare_rectified_maps_under_the_code_s_optimizer(name):
    config = pair(name)
    assert (config.model.terms.imitation.tap, config.model.terms.imitation.adapter.relu) == ("backbone", True)
    sgd = dict(type="SGD", lr=3e-3, momentum=0.9, weight_decay=5e-4)
    assert config.optim_wrapper.optimizer == sgd
    assert config.train_dataloader.batch_size == 1


@pytest.mark.parametrize("name", FPN)
def test_pyramid_pairs_compare_signed_maps_and_mark_one_level_per_object(name):
    term = pair(name).model.terms.imitation
    assert (term.tap, term.adapter.relu, term.mask.level_assignment) == ("neck", False, "size")


@pytest.mark.parametrize("name", PAIRS)
def test_student_teacher_and_data_know_the_same_classes(name):
    family, config = name.split("_")[0], pair(name)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        data = leaf_dataset(loader)
        found = data.get("metainfo", {}).get("classes", getattr(datasets, data.type).METAINFO["classes"])
        assert tuple(found) == tuple(CLASSES[family])
    for side in ("student", "teacher"):
        head = build(name, side).roi_head.bbox_head
        assert head.num_classes == len(CLASSES[family])
        assert head.fc_cls.out_features == len(CLASSES[family]) + 1  # background


@pytest.mark.parametrize(
    ("name", "strides", "student_channels", "teacher_channels"),
    [
        ("voc0712_vgg16_vgg11", [16], 512, 512),
        ("voc0712_r101_r50", [16], 1024, 1024),
        ("voc0712_r101_r101-half", [16], 512, 1024),
        ("coco_r50_r50-half", [4, 8, 16, 32, 64], 256, 256),
        ("kitti_r50_r50-half", [4, 8, 16, 32, 64], 256, 256),
    ],
)
def test_the_compared_maps_meet_at_the_anchors_strides(name, strides, student_channels, teacher_channels):
    for side, channels in (("student", student_channels), ("teacher", teacher_channels)):
        maps = tap(name, side)
        assert [128 // m.shape[-1] for m in maps] == strides
        assert {m.shape[1] for m in maps} == {channels}
        # The anchors that make the mask sit on the very cells compared.
        assert [stride for stride, _ in build(name, side).rpn_head.prior_generator.strides] == strides


@pytest.mark.parametrize("name", PAIRS)
def test_student_and_teacher_have_the_same_anchors(name):
    student, teacher = (both_models(name)[side].rpn_head.anchor_generator for side in ("student", "teacher"))
    assert student == teacher


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_roi_head_fits_the_maps_it_is_fed(name, side):
    """On real tensors the big heads take gigabytes; shapes alone tell, all but the RoI operator's own."""
    model = build(name, side)
    extractor, head = model.roi_head.bbox_roi_extractor, model.roi_head.bbox_head
    maps = tap(name, side)
    assert maps[0].shape[1] == extractor.out_channels
    assert [128 // m.shape[-1] for m in maps[: extractor.num_inputs]] == list(extractor.featmap_strides)
    logits, deltas = model.rpn_head(maps)
    assert len(logits) == len(deltas) == len(maps)
    cells = extractor.roi_layers[0].output_size
    rois = torch.zeros(2, extractor.out_channels, *cells, device="meta")
    if model.roi_head.with_shared_head:
        rois = model.roi_head.shared_head(rois)
    scores, boxes = head(rois)
    assert (scores.shape, boxes.shape) == ((2, head.num_classes + 1), (2, 4 * head.num_classes))


@pytest.mark.parametrize("name", [name for name in PAIRS if name.endswith("-half")])
def test_a_half_width_student_has_every_backbone_layer_at_half_width(name):
    convolutions = {}
    for side in ("student", "teacher"):
        named = build(name, side).backbone.named_modules()
        convolutions[side] = {key: m.out_channels for key, m in named if isinstance(m, torch.nn.Conv2d)}
    assert {key: 2 * width for key, width in convolutions["student"].items()} == convolutions["teacher"]
    assert all(parameter.requires_grad for parameter in build(name, "student").parameters())


@pytest.mark.parametrize("family", ["voc0712", "coco", "kitti"])
def test_plain_configs_need_no_plugin_to_be_read(family):
    for path in (ROOT / "configs" / family).glob("faster-rcnn_*.py"):
        plain = read(path)
        assert "custom_imports" not in plain
        assert plain.model.roi_head.bbox_head.num_classes == len(CLASSES[family])


@pytest.mark.parametrize("name", PAIRS)
def test_a_config_is_a_docstring_and_a_short_diff(name):
    text = (ROOT / f"configs/fgfi/{name}.py").read_text()
    title, *_ = ast.get_docstring(ast.parse(text)).splitlines()
    assert title.endswith(".")
    assert len(text.splitlines()) <= 40
    keys = ("psi=", "weight=", "begin=", "kernel=")
    numbered = [line for line in text.splitlines() if any(key in line for key in keys)]
    assert len(numbered) == 4
    assert all("#" in line and ("[code]" in line or "[ours]" in line) for line in numbered)
