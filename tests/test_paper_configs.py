"""The pairs on VOC, KITTI and COCO are wired as their papers say; nothing is trained or fetched."""

import det_distill.plugins  # noqa: F401  (before mmdet: it serves mmcv's operators)

# isort: split
import ast
import copy
import json
from functools import cache
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet import datasets
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

import tiny
from det_distill.student.model import student_model

ROOT = Path(__file__).parents[1]
CLASSES = dict(
    voc0712=datasets.VOCDataset.METAINFO["classes"],
    coco=datasets.CocoDataset.METAINFO["classes"],
    kitti=("Car", "Pedestrian", "Cyclist"),
)
PROMISED = dict(
    chen="coco_r50_r50-half coco_r101_r50 coco_rfcn_r101_r50 kitti_r50_r50-half kitti_rfcn_r101_r50 "
    "voc0712_rfcn_r101_r50 voc0712_vgg11_half-res voc0712_vgg16_vgg11",
    fgfi="coco_r50_r50-half coco_r101_r50 kitti_r50_r50-half voc0712_r101_r101-half voc0712_r101_r50 "
    "voc0712_rfcn_r101_r50 voc0712_vgg16_vgg11",
    li="coco_r50_r50-half coco_r101_r50 coco_rfcn_r101_r50 kitti_r50_r50-half kitti_rfcn_r101_r50 "
    "voc0712_r101_r50 voc0712_rfcn_r101_r50 voc0712_rfcn_r50_half-res",
    recipe="coco_r50_r50-half kitti_r50_r50-half voc0712_r101_r101-half",
    wei="coco_r18_r18-16th kitti_r18_r18-16th voc0712_r18_r18-16th",
)
SINGLE = ["recipe/coco_rtmdet-m_rtmdet-s", "recipe/coco_yolox-l_yolox-s"]  # which have no terms of two stages
PAIRS = [f"{method}/{stem}" for method, stems in PROMISED.items() for stem in stems.split()]
QUANTISED = [f"wei/{family}_r18_quantised_teacher" for family in CLASSES]
CUT_OTHERWISE = [name for name in PAIRS if "_rfcn_" in name] + ["li/voc0712_r101_r50"]  # 14 cells, or by their place
HALF_RES = [name for name in PAIRS if name.endswith("_half-res")]


STOCK = [  # of a teacher that MMDetection has trained
    f"{file.parent.name}/{file.stem}"
    for file in sorted((ROOT / "configs").glob("*/coco_*.py"))
    if 'config="mmdet::' in file.read_text()
]


def of(method):
    return [name for name in PAIRS if name.startswith(method)]


def family_of(name):
    return name.split("/")[1].split("_")[0]


@cache
def read(path):
    return Config.fromfile(path, import_custom_modules=False)


def pair(name):
    return read(ROOT / f"configs/{name}.py")


def named(path, _key=None):
    """The config of a path or an `mmdet::` name, read once."""
    if not path.startswith("mmdet::"):
        return read(ROOT / path)
    return read(Path(mmdet.__file__).parent / ".mim/configs" / path.removeprefix("mmdet::"))


def teacher_model(name):
    return named(pair(name).model.teacher.config).model


def both_models(name):
    return dict(student=ConfigDict(student_model(pair(name).model)), teacher=teacher_model(name))


def scale_of(name):
    return pair(name).model.student.get("scale", 1)


@pytest.mark.parametrize("name", STOCK)
def test_a_stock_teachers_weights_are_those_mmdetection_lists(name):
    teacher = pair(name).model.teacher
    assert teacher.checkpoint == get_config(teacher.config, pretrained=True).model_path


@cache
def on_meta(model):
    """On the meta device: shapes without memory or arithmetic, and no weight is initialised, so none is fetched."""
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        detector = MODELS.build(ConfigDict(json.loads(model)))
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # slow on that device, and changes no shape
            module.forward = lambda x: x
    return detector


def build(name, side):
    return on_meta(json.dumps(both_models(name)[side].to_dict()))


def maps_term(name):
    """The term that compares maps; every method has one."""
    return next(term for term in pair(name).model.terms.values() if term.get("tap") in ("neck", "backbone"))


def tap(name, side):
    """The maps that the pair's term compares, of one image of 128x128."""
    model = build(name, side)
    image = torch.zeros(1, 3, 128, 128, device="meta")
    with torch.no_grad():
        maps = model.backbone(image)
        return model.neck(maps) if maps_term(name).tap == "neck" else maps


def leaf_datasets(config):
    """The innermost data sets, below Repeat- and ConcatDataset."""
    if "datasets" in config:
        return config["datasets"]
    return leaf_datasets(config["dataset"]) if "dataset" in config else [config]


def resize(pipeline):
    return next(step.scale for step in pipeline if step.type == "Resize")


def test_every_pair_we_promise_is_here_and_no_other():
    found = {
        f"{method}/{path.stem}"
        for method in PROMISED
        for family in CLASSES
        for path in (ROOT / "configs" / method).glob(f"{family}_*.py")
    }
    assert found == {*PAIRS, *QUANTISED, *SINGLE}


@pytest.mark.parametrize("name", PAIRS)
def test_a_config_is_a_docstring_and_a_short_diff_with_a_source_beside_every_number(name):
    text = (ROOT / f"configs/{name}.py").read_text()
    title, *_ = ast.get_docstring(ast.parse(text)).splitlines()
    assert title.endswith(".")
    assert len(text.splitlines()) <= 45
    keys = (
        "psi=",
        "weight=",
        "begin=",
        "kernel=",
        "nu=",
        "num=",
        "step=",
        "distance=",
        "boxes=",
        "resize=",
        "weights=",
    )
    numbered = [line for line in text.splitlines() if any(key in line for key in keys)]
    assert len(numbered) >= 3
    sources = ("[paper]", "[code]", "[quoted]", "[ours]")
    assert [line for line in numbered if not any(source in line.partition("#")[2] for source in sources)] == []


# ---------------------------------------------------------------- the papers' numbers


@pytest.mark.parametrize("name", of("fgfi"))
def test_imitation_has_the_code_s_numbers(name):
    config = pair(name)
    assert set(config.model.terms) == {"imitation"}
    term = config.model.terms.imitation
    assert (term.type, term.mask.type, term.adapter.type) == ("FeatureImitation", "AnchorIoUMask", "ConvAdapter")
    assert (term.mask.psi, term.weight) == (0.5, 0.01)
    assert (term.adapter.kernel, term.adapter.init_std) == (3, 1e-4)
    assert term.schedule == dict(type="Window", begin=400)


@pytest.mark.parametrize("name", of("chen"))
def test_chen_s_losses_have_the_paper_s_numbers(name):
    terms = dict(pair(name).model.terms)
    hint = terms.pop("hint")
    assert (hint.type, hint.mask, hint.distance, hint.weight) == ("FeatureImitation", dict(type="FullMask"), "l2", 0.5)
    assert hint.adapter == dict(type="ConvAdapter", kernel=1)
    heads = ("roi", "rpn") if scale_of(name) == 1 else ("roi",)  # anchors differ at a scale
    assert set(terms) == {f"{head}_{kind}" for head in heads for kind in ("soft", "bounded")}
    for head in heads:
        soft = dict(type="WeightedSoftLabels", head=head, background_weight=1.5, weight=0.5)
        assert terms[f"{head}_soft"] == soft
        assert terms[f"{head}_bounded"] == dict(type="BoundedRegression", head=head, margin=0, nu=0.5)
    tasks = {"roi": "loss_cls", "rpn": "loss_rpn_cls"}
    assert pair(name).model.task_weights == {tasks[head]: 0.5 for head in heads}  # mu beside 1 - mu


@pytest.mark.parametrize("name", of("li") + of("wei"))
def test_mimic_has_weight_one_and_a_3x3_convolution_and_only_wei_rounds(name):
    assert set(pair(name).model.terms) == {"mimic"}
    mimic = pair(name).model.terms.mimic
    boxes = "proposals" if name in CUT_OTHERWISE else "sampled"
    assert (mimic.type, mimic.boxes, mimic.weight) == ("ProposalMimic", boxes, 1)
    assert mimic.adapter == dict(type="ConvAdapter", kernel=3)
    if name.startswith("wei"):
        assert mimic.quantiser == dict(type="Quantiser", step=1.0, signed=False)
        neck = teacher_model(name).neck
        assert (neck.step, neck.signed) == (mimic.quantiser.step, mimic.quantiser.signed)
    else:
        assert "quantiser" not in mimic


@pytest.mark.parametrize("name", of("recipe"))
def test_the_recipe_is_the_one_that_was_measured(name):
    """Nothing but where its pyramid or last map asks for it differs from the cards' and the digits'."""
    found, measured = (pair(one).model.to_dict() for one in (name, "recipe/digits_r18-half_r18-quarter"))
    for model in (found, measured):
        model["terms"]["imitation"].pop("schedule")
    imitation = found["terms"]["imitation"]
    assert imitation["adapter"].pop("relu", False) is (imitation.pop("tap") == "backbone")
    assert (imitation["mask"].pop("level_assignment", None) == "size") is ("_fpn" in pair(name).model.teacher.config)
    assert measured["terms"]["imitation"].pop("tap") == "neck"
    for key in ("terms", "task_weights", "init_cfg"):
        assert found[key] == measured[key]


@pytest.mark.parametrize("name", of("recipe"))
def test_the_recipe_s_teacher_can_be_sorted_and_every_layer_inherits(name):
    distiller = tiny.shipped_distiller(name)
    layers = sum(1 for one in distiller.student.modules() if one._parameters)
    words = f"begins with the heaviest channels of {layers} of {layers} layers of the teacher"
    assert distiller.inherit.told(distiller.student, distiller.teachers) == words


@pytest.mark.parametrize("name", PAIRS)
def test_every_run_clips_gradients_and_resumes_exactly(name):
    config = pair(name)
    assert config.optim_wrapper.clip_grad == dict(max_norm=10)
    assert {hook.type for hook in config.custom_hooks} >= {"AdapterStateHook", "ExactResumeHook"}


@pytest.mark.parametrize("name", [name for name in of("fgfi") if "/voc0712" in name])
def test_single_level_pairs_compare_rectified_maps_under_their_code_s_optimizer(name):
    config, rfcn = pair(name), "rfcn" in name
    assert config.model.terms.imitation.tap == ("neck" if rfcn else "backbone")
    assert config.model.terms.imitation.adapter.relu is True
    sgd = dict(type="SGD", lr=1e-3 if rfcn else 3e-3, momentum=0.9, weight_decay=5e-4)
    assert config.optim_wrapper.optimizer == sgd
    assert config.train_dataloader.batch_size == (2 if rfcn else 1)


@pytest.mark.parametrize("name", ["fgfi/coco_r50_r50-half", "fgfi/kitti_r50_r50-half"])
def test_pyramid_pairs_compare_signed_maps_and_mark_one_level_per_object(name):
    term = pair(name).model.terms.imitation
    assert (term.tap, term.adapter.relu, term.mask.level_assignment) == ("neck", False, "size")


# ---------------------------------------------------------------- student, teacher, data


def base_of(name):
    first = next(line for line in (ROOT / f"configs/{name}.py").read_text().splitlines() if "_base_ =" in line)
    return read((ROOT / "configs" / name).parent / first.split('"')[1])


@pytest.mark.parametrize("name", PAIRS)
def test_the_student_is_the_plain_config_s_model(name):
    assert both_models(name)["student"] == base_of(name).model


@pytest.fixture
def wired(monkeypatch):
    """A pair's Distiller of detectors on the meta device, anchors and preprocessing on the CPU."""

    def shapes_only(model):
        detector = copy.deepcopy(on_meta(json.dumps(ConfigDict(model).to_dict())))
        detector.rpn_head.prior_generator = TASK_UTILS.build(model["rpn_head"]["anchor_generator"])
        detector.data_preprocessor = MODELS.build(model["data_preprocessor"])
        return detector

    def pooled(self, maps, rois, _scale=None):
        return maps[0].new_zeros(len(rois), self.out_channels, *self.roi_layers[0].output_size)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("det_distill.teachers.teacher.load_strictly", lambda *_: None)
    monkeypatch.setattr("det_distill.teachers.teacher.load_config", named)
    monkeypatch.setattr("det_distill.teachers.teacher.build_detector", shapes_only)
    monkeypatch.setattr("det_distill.distiller.build_detector", shapes_only)
    monkeypatch.setattr("det_distill.inheritance.selection.sort_channels", lambda *_: None)  # of no values
    monkeypatch.setattr(SingleRoIExtractor, "forward", pooled)  # which RoI lies on which level is data
    return lambda name: MODELS.build(pair(name).model)


@pytest.mark.parametrize("name", PAIRS)
def test_every_term_is_wired_and_the_compared_maps_have_adapters(name, wired):
    distiller = wired(name)
    assert set(distiller.terms) == set(pair(name).model.terms)
    student, teacher = (tap(name, side) for side in ("student", "teacher"))
    term = distiller.terms[next(key for key, cfg in pair(name).model.terms.items() if cfg is maps_term(name))]
    adapters = term.adapters if "adapters" in dict(term.named_children()) else [term.adapter] * len(term.pairs)
    assert len(adapters) > 0
    for adapter, (i, k) in zip(adapters, [one.places for one in term.pairs], strict=True):
        assert (adapter.conv.in_channels, adapter.conv.out_channels) == (student[i].shape[1], teacher[k].shape[1])


@pytest.mark.parametrize("name", of("li") + of("wei"))
def test_mimic_takes_the_crops_that_the_student_s_roi_head_has_made_wherever_it_makes_such(name, wired, monkeypatch):
    """Else its own proposals cost nothing more, and are the paper's."""
    monkeypatch.setitem(pair(name).model.terms.mimic, "boxes", "sampled")
    assert ("roi.crops" in wired(name).terms["mimic"].taps) is (name not in CUT_OTHERWISE)


@pytest.mark.parametrize("name", PAIRS)
def test_student_teacher_and_data_know_the_same_classes(name):
    family, config = family_of(name), pair(name)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        data = leaf_datasets(loader)[0]
        found = (data.get("metainfo") or getattr(datasets, data.type).METAINFO)["classes"]
        assert tuple(found) == tuple(CLASSES[family])
    for side in ("student", "teacher"):
        head = build(name, side).roi_head.bbox_head
        assert head.num_classes == len(CLASSES[family])
        assert head.fc_cls.out_features == len(CLASSES[family]) + 1  # background


@pytest.mark.parametrize(
    ("name", "strides", "student_channels", "teacher_channels"),
    [
        ("fgfi/voc0712_vgg16_vgg11", [16], 512, 512),
        ("fgfi/voc0712_r101_r50", [16], 1024, 1024),
        ("fgfi/voc0712_r101_r101-half", [16], 512, 1024),
        ("fgfi/voc0712_rfcn_r101_r50", [16], 1024, 1024),
        ("fgfi/coco_r50_r50-half", [4, 8, 16, 32, 64], 256, 256),
        ("fgfi/kitti_r50_r50-half", [4, 8, 16, 32, 64], 256, 256),
        ("wei/voc0712_r18_r18-16th", [16], 32, 512),
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
def test_student_and_teacher_have_the_same_anchors_in_the_scene(name):
    models = both_models(name)
    own, its = (TASK_UTILS.build(models[side].rpn_head.anchor_generator) for side in ("student", "teacher"))
    for mine, other in zip(own.base_anchors, its.base_anchors, strict=True):
        assert torch.allclose(mine / scale_of(name), other)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_heads_fit_the_maps_they_are_fed(name, side):
    """On real tensors the big heads take gigabytes; shapes alone tell, all but the RoI operator's own."""
    model = build(name, side)
    extractor, head = model.roi_head.bbox_roi_extractor, model.roi_head.bbox_head
    maps = model.extract_feat(torch.zeros(1, 3, 128, 128, device="meta"))
    assert maps[0].shape[1] == getattr(extractor, "in_channels", extractor.out_channels)
    assert [128 // m.shape[-1] for m in maps[: extractor.num_inputs]] == list(extractor.featmap_strides)
    logits, deltas = model.rpn_head(maps)
    assert len(logits) == len(deltas) == len(maps)
    cells = extractor.roi_layers[0].output_size
    rois = torch.zeros(2, extractor.out_channels, *cells, device="meta")
    if model.roi_head.with_shared_head:
        rois = model.roi_head.shared_head(rois)
    scores, boxes = head(rois)
    slots = 1 if head.reg_class_agnostic else head.num_classes
    assert (scores.shape, boxes.shape) == ((2, head.num_classes + 1), (2, 4 * slots))


@pytest.mark.parametrize(
    ("name", "times"),
    [(name, 2) for name in PAIRS if name.endswith("-half")] + [(name, 16) for name in of("wei")],
)
def test_a_thin_student_has_every_backbone_layer_that_much_thinner(name, times):
    convolutions = {}
    for side in ("student", "teacher"):
        named = build(name, side).backbone.named_modules()
        convolutions[side] = {key: m.out_channels for key, m in named if isinstance(m, torch.nn.Conv2d)}
    assert {key: times * width for key, width in convolutions["student"].items()} == convolutions["teacher"]
    assert all(parameter.requires_grad for parameter in build(name, "student").parameters())


@pytest.mark.parametrize("name", HALF_RES)
def test_at_half_resolution_training_loads_the_teacher_s_images_and_tests_load_half_of_them(name):
    config, teacher = pair(name), read(ROOT / pair(name).model.teacher.config)
    assert scale_of(name) == 0.5
    for whole in leaf_datasets(config.train_dataloader):
        assert resize(whole.pipeline) == resize(teacher.test_dataloader.dataset.pipeline) == (1146, 688)
    for small in (config.val_dataloader, config.test_dataloader, base_of(name).train_dataloader):
        assert {resize(data.pipeline) for data in leaf_datasets(small)} == {(573, 344)}


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_teacher_has_the_weights_it_starts_from(name):
    config, plain = pair(name), base_of(name)
    keys = [set(on_meta(json.dumps(one.model.to_dict())).state_dict()) for one in (config, plain)]
    assert keys[0] == keys[1]
    assert config.load_from == f"data/teachers/faster-rcnn_r18_dc5_{family_of(name)}.pth"
    assert config.optim_wrapper.optimizer.lr == pytest.approx(plain.optim_wrapper.optimizer.lr / 10)
    student = pair(f"wei/{family_of(name)}_r18_r18-16th").model.teacher
    assert (student.config, student.checkpoint) == (
        f"configs/{name}.py",
        f"work_dirs/{Path(name).name}/epoch_{config.train_cfg.max_epochs}.pth",
    )


@pytest.mark.parametrize("family", ["voc0712", "coco", "kitti"])
def test_plain_configs_need_no_plugin_to_be_read(family):
    for path in (ROOT / "configs" / family).glob("*_*.py"):
        plain = read(path)
        assert "custom_imports" not in plain
        if "model" in plain:
            head = plain.model.get("roi_head", plain.model).bbox_head
            assert head.num_classes == len(CLASSES[family])
