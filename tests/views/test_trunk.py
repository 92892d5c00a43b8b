"""Detectors of other families: what they show is what their own code makes, and a student among them trains as ever."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.runner import Runner
from torch import nn

import strangers
import tiny
from det_distill.building import build_detector
from det_distill.views.anatomy import MapSpec
from det_distill.views.base import ROI_TARGETS, ROIS, part
from det_distill.views.cascade import CascadeView
from det_distill.views.families import view_of
from det_distill.views.single_stage import SingleStageView
from det_distill.views.taps import Recorder
from det_distill.views.trunk import TrunkView
from det_distill.views.two_stage import argument


def sparse_rcnn() -> nn.Module:
    """Two-stage by name, but its proposals are learned."""
    model = strangers.cascade()
    model.rpn_head = dict(type="EmbeddingRPNHead", num_proposals=5, proposal_feature_channel=16)
    return MODELS.build(model)


def headless() -> nn.Module:
    """As MaskFormer, single-stage by name, but it judges no boxes."""
    net = MODELS.build(tiny.single_stage("retinanet"))
    del net.bbox_head
    return net


FAMILIES: dict[str, tuple[Callable[[], nn.Module], type]] = {
    "cascade": (lambda: MODELS.build(strangers.cascade()), CascadeView),
    "htc": (lambda: MODELS.build(strangers.htc()), CascadeView),
    "yolox": (lambda: MODELS.build(strangers.yolox()), SingleStageView),
    "deformable_detr": (lambda: MODELS.build(strangers.deformable_detr()), TrunkView),
    "fast_rcnn": (lambda: MODELS.build(strangers.fast_rcnn()), TrunkView),
    "sparse_rcnn": (sparse_rcnn, TrunkView),
    "headless": (headless, TrunkView),
}
STRIDES = dict(cascade=[4, 8, 16, 32, 64], deformable_detr=[8, 16, 32, 64], yolox=[8, 16, 32])
WHOLE = dict(
    type="FeatureImitation",
    tap="neck",
    mask=dict(type="FullMask"),
    weight=3.0,
    adapter=dict(type="ConvAdapter", kernel=1),
)


def built(kind: str) -> Any:
    torch.manual_seed(0)
    detector: Any = FAMILIES[kind][0]()
    detector.init_weights()
    return detector.eval()


def distiller(folder: Path, kind: str, **other: Any) -> Any:
    """A student taught by a wider one of its family."""
    make = strangers.ALL[kind]
    teacher = tiny.write_teacher(folder, make(16))
    torch.manual_seed(0)
    model = MODELS.build(tiny.distiller(make(8), teacher, **dict(terms=dict(whole=WHOLE)) | other))
    model.init_weights()
    return model


@pytest.mark.parametrize("kind", FAMILIES)
def test_shows_the_maps_that_its_own_code_makes(kind: str):
    detector = built(kind)
    view = view_of(detector, "teacher")
    assert type(view) is FAMILIES[kind][1]
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        seen, maps = view.run(images, ["backbone", "neck"]), detector.extract_feat(images)
        stages = detector.backbone(images)
    for shown, wanted in ((seen["neck"], maps), (seen["backbone"], stages)):
        assert len(shown) == len(wanted)
        assert all(map(torch.equal, shown, wanted))


@pytest.mark.parametrize("kind", strangers.ALL)
def test_a_student_shows_in_its_own_loss_what_it_does_alone(kind: str):
    detector = built(kind).train()
    data = detector.data_preprocessor(tiny.batch(), training=True)
    view = view_of(detector, "student")
    with view.record(["neck"]) as seen:
        detector.loss(data["inputs"], data["data_samples"])
    assert all(map(torch.equal, seen["neck"], detector.extract_feat(data["inputs"])))
    assert [spec.stride for spec in view.anatomy(["neck"]).maps("neck")] == STRIDES[kind]
    assert view.classes == 3


@pytest.mark.parametrize("kind", strangers.ALL)
def test_a_term_of_maps_teaches_and_weight_0_is_stock_training(tmp_path: Path, kind: str):
    model = distiller(tmp_path, kind)
    with model.view.record(["neck"]) as seen:
        found = tiny.losses(model, tiny.batch())
    data = model.data_preprocessor(tiny.batch(), training=True)
    with torch.no_grad():
        goals, wanted = model.teacher.detector.extract_feat(data["inputs"]), 0.0
        for own, goal, adapter in zip(seen["neck"], goals, model.terms["whole"].adapters, strict=True):
            gap = torch.einsum("bchw,dc->bdhw", own, adapter.conv.weight[:, :, 0, 0])
            gap = gap + adapter.conv.bias[:, None, None] - goal
            wanted += float(gap.double().square().sum()) / (2 * len(gap) * gap[0, 0].numel()) / len(goals)
    assert float(found["loss_whole"]) == pytest.approx(3 * wanted, rel=1e-4)
    total, _ = model.parse_losses(found)
    total.backward()
    assert all(adapter.conv.weight.grad.any() for adapter in model.terms["whole"].adapters)

    stock = MODELS.build(strangers.ALL[kind](8))
    stock.load_state_dict(model.student.state_dict())
    model.terms["whole"].weight = 0.0
    wanted, mine = (tiny.losses(one, tiny.batch()) for one in (stock, model))
    for name, value in wanted.items():
        pairs = zip(mine[name], value, strict=True) if isinstance(value, list) else [(mine[name], value)]
        assert all(torch.equal(one, other) for one, other in pairs), name


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("deformable_detr", "nek", "did you mean 'neck'? It shows backbone, neck"),
        ("deformable_detr", "encoder.layers.0", "'encoder' runs behind the neck, and a DeformableDETR is followed no"),
        ("deformable_detr", "rpn.logits", "It shows backbone, neck, backbone.preactivation and dotted"),
        ("sparse_rcnn", "rpn.proposals", "It shows backbone, neck"),
        ("cascade", "roi.crops", "roi.embedding, roi.logits, roi.deltas"),
        ("yolox", "head.logits", "It shows backbone, neck and dotted module paths"),
    ],
)
def test_what_it_does_not_show_is_refused_with_what_it_does(kind: str, name: str, said: str):
    with pytest.raises(ValueError, match=f"the student has no tap '{name}'.*{re.escape(said)}"):
        view_of(built(kind), "student").stage(name)


def test_each_stage_of_a_cascade_judges_the_boxes_it_is_given():
    detector = built("cascade")
    images, boxes = torch.randn(2, 3, 64, 96), torch.tensor([[0.0, 3, 5, 40, 60], [1, 20, 0, 90, 50]])
    paths = [f"roi_head.bbox_head.{stage}.fc_cls" for stage in range(3)]
    with torch.no_grad():
        seen, maps = view_of(detector, "teacher").run(images, paths, boxes), detector.extract_feat(images)
        for stage, path in enumerate(paths):
            crops = detector.roi_head.bbox_roi_extractor[stage](maps[:4], boxes)
            assert torch.equal(seen[path][0], detector.roi_head.bbox_head[stage](crops)[0])


def test_the_boxes_of_a_cascade_are_those_its_first_stage_samples():
    detector = built("cascade")
    data = detector.data_preprocessor(tiny.batch(), training=True)
    with Recorder() as recorder, view_of(detector, "student").record([ROIS]) as seen:
        recorder.wrap("sampled", detector.roi_head.bbox_sampler[0], "sample")
        detector.loss(data["inputs"], data["data_samples"])
    assert torch.equal(seen[ROIS], bbox2roi([one.priors for one in recorder.calls("sampled")]))


def test_of_a_cascade_only_the_stages_run_that_are_asked():
    detector = built("cascade")
    boxes = torch.tensor([[0.0, 3, 5, 40, 60]])
    for names, wanted in (
        (["roi.logits", "neck"], [0]),
        (["roi_head.bbox_head.2.fc_cls", "neck"], [2]),
        (["roi.deltas", "roi_head.bbox_roi_extractor.1"], [0, 1]),
        (["rpn.logits"], []),
    ):
        with Recorder() as recorder:
            recorder.wrap("judged", detector.roi_head, "_bbox_forward", lambda args, _: args[0])
            view_of(detector, "teacher").run(torch.randn(1, 3, 64, 96), names, boxes)
        assert list(recorder.calls("judged")) == wanted


@pytest.mark.parametrize("kind", ["cascade", "htc"])
def test_a_cascade_judges_boxes_as_its_first_stage_does_when_it_predicts(kind: str):
    detector = built(kind)
    data = detector.data_preprocessor(tiny.batch(), training=False)
    first = {
        "features": "bbox_head.0",
        "logits": "bbox_head.0",
        "deltas": "bbox_head.0",
        "embedding": "bbox_head.0.fc_cls",
    }
    picks = {"features": argument(0), "embedding": argument(0), "logits": part(0), "deltas": part(1)}
    with Recorder() as own, torch.no_grad():
        own.watch("rois", detector.roi_head.bbox_roi_extractor[0], argument(1))
        for name, path in first.items():
            own.watch(name, detector.roi_head.get_submodule(path), picks[name])
        detector.predict(data["inputs"], data["data_samples"])
        view = view_of(detector, "teacher")
        seen = view.run(data["inputs"], [f"roi.{name}" for name in first], own.calls("rois")[0])
    assert len(own.calls("rois")[0]) > 8
    for name in first:
        assert torch.equal(seen[f"roi.{name}"], own.calls(name)[0]), name
    assert torch.equal(view.classify(seen["roi.features"]), seen["roi.logits"])


def test_a_training_cascade_shows_its_first_stage():
    detector = built("cascade").train()
    data = detector.data_preprocessor(tiny.batch(), training=True)
    with Recorder() as own, view_of(detector, "student").record(["roi.logits", ROI_TARGETS]) as seen:
        own.watch("logits", detector.roi_head.bbox_head[0], part(0))
        own.wrap("targets", detector.roi_head.bbox_head[0], "get_targets")
        detector.loss(data["inputs"], data["data_samples"])
    assert torch.equal(seen["roi.logits"], own.calls("logits")[0])
    assert all(map(torch.equal, seen[ROI_TARGETS], own.calls("targets")[0]))


@pytest.mark.parametrize("student", ["two-stage", "cascade"])
def test_a_cascade_teaches_scores_and_boxes(tmp_path: Path, student: str):
    terms = dict(
        scores=dict(type="WeightedSoftLabels", head="roi", weight=1.0),
        boxes=dict(type="BoundedRegression", head="roi", weight=1.0, margin=1e6),  # no student's box is good enough
    )
    small = tiny.faster_rcnn() if student == "two-stage" else strangers.cascade()
    teacher = tiny.write_teacher(tmp_path, strangers.cascade(16))
    torch.manual_seed(0)
    model = MODELS.build(tiny.distiller(small, teacher, terms=terms))
    model.init_weights()
    found = tiny.losses(model, tiny.batch())
    assert found["loss_scores"] > 0
    assert found["loss_boxes"] > 0


@pytest.mark.parametrize("boxes", ["proposals", "sampled"])
def test_a_cascade_mimics_at_its_boxes(tmp_path: Path, boxes: str):
    mimic = dict(type="ProposalMimic", tap="neck", boxes=boxes, strides=[4, 8, 16, 32], weight=1.0, num=8)
    model = distiller(tmp_path, "cascade", terms=dict(mimic=mimic))
    assert tiny.losses(model, tiny.batch())["loss_mimic"] > 0


def test_the_best_boxes_of_a_detr_are_those_it_predicts():
    detector = built("deformable_detr")
    data = detector.data_preprocessor(tiny.batch(), training=False)
    seen, boxes = view_of(detector, "teacher").best_boxes(
        data["inputs"], [one.metainfo for one in data["data_samples"]], ["neck"]
    )
    with torch.no_grad():
        maps = detector.extract_feat(data["inputs"])
        found = detector.predict(data["inputs"], data["data_samples"], rescale=False)
    assert all(map(torch.equal, seen["neck"], maps))
    for mine, one in zip(boxes, found, strict=True):
        best = sorted(zip(one.pred_instances.scores.tolist(), one.pred_instances.bboxes.tolist(), strict=True))[::-1]
        assert mine.tolist() == [box for _, box in best]


def test_the_dry_run_finds_channels_and_strides():
    wanted = tuple(MapSpec(32, stride) for stride in STRIDES["deformable_detr"])
    assert view_of(built("deformable_detr"), "student").anatomy(["neck"]).shows["neck"] == wanted


def test_a_mask_of_anchors_is_refused_where_there_are_none(tmp_path: Path):
    with pytest.raises(ValueError, match=r"terms\.imitation: AnchorIoUMask needs anchors, the student has none"):
        distiller(tmp_path, "deformable_detr", terms=dict(imitation=tiny.imitation()))


@pytest.mark.parametrize("kind", [*strangers.ALL, "fast_rcnn"])
def test_a_teacher_of_other_classes_is_refused(tmp_path: Path, kind: str):
    teacher = tiny.write_teacher(tmp_path, getattr(strangers, kind)(classes=4))
    with pytest.raises(ValueError, match="the teacher knows 4 classes, the student 3"):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, terms={}))


def run(folder: Path, model: Any, hook: dict[str, Any]) -> tuple[Runner, str]:
    """A run of one epoch with a further hook, and its log."""
    hooks = [dict(type="AdapterStateHook"), dict(type="ExactResumeHook"), hook]
    cfg = tiny.run_config(tiny.write_dataset(folder / "data"), folder / "run", model, custom_hooks=hooks)
    cfg.merge_from_dict(dict(log_level="INFO", train_cfg=dict(max_epochs=1, val_begin=9)))
    loader = cfg.train_dataloader
    pipeline = loader.dataset.pipeline
    loader.dataset.pipeline = pipeline[:2]
    loader.dataset = dict(type="MultiImageMixDataset", dataset=loader.dataset, pipeline=pipeline[2:])
    runner = tiny.trained(cfg)
    return runner, "".join(file.read_text() for file in (folder / "run").glob("*/*.log"))


def test_a_detr_inherits_and_is_fitted_as_far_as_its_neck(tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, strangers.deformable_detr(16))
    init = dict(type="WeightSelection", reconstruct=dict(images=2, rows=500))
    model = tiny.distiller(strangers.deformable_detr(), teacher, terms={}, init_cfg=init)
    runner, log = run(tmp_path, model, dict(type="ReconstructionHook"))
    layers = [path for path, one in runner.model.student.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    trunk = [path for path in layers if path.startswith(("backbone.", "neck."))]
    assert re.findall(r"reconstruction: (\d+) layers fitted", log) == [str(len(trunk))]
    assert len(trunk) < len(layers)


def test_a_stock_hook_finds_the_students_parts(tmp_path: Path):
    """YOLOX's own switches `model.bbox_head` to another loss for its last epochs."""
    teacher = tiny.write_teacher(tmp_path, strangers.yolox(16))
    model = tiny.distiller(strangers.yolox(), teacher, terms=dict(whole=WHOLE))
    runner, _ = run(tmp_path, model, dict(type="YOLOXModeSwitchHook", num_last_epochs=1))
    assert runner.model.student.bbox_head.use_l1


def test_how_wide_its_heads_would_be_nobody_knows(tmp_path: Path):
    model = strangers.deformable_detr()
    teacher = tiny.write_teacher(tmp_path, model)
    with pytest.raises(ValueError, match=r"student\.width=0\.5: nobody knows the widths of what comes behind"):
        MODELS.build(tiny.distiller(dict(model=model, width=0.5), teacher, terms={}))


def test_a_config_that_a_detector_writes_into_stays_as_it_was():
    model = strangers.deformable_detr()
    build_detector(model)
    assert model == strangers.deformable_detr()


def test_a_detector_without_a_backbone_is_refused():
    with pytest.raises(ValueError, match="the teacher is a Linear; a detector with a backbone is expected"):
        view_of(nn.Linear(1, 1), "teacher")


def test_an_attribute_that_nobody_has_is_missed_by_name(tmp_path: Path):
    with pytest.raises(AttributeError, match="'YOLOX' object has no attribute 'nope'"):
        _ = distiller(tmp_path, "yolox").nope
    with pytest.raises(AttributeError, match="'Distiller' object has no attribute '_nope'"):
        _ = distiller(tmp_path, "yolox")._nope
