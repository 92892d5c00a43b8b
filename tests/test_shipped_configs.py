"""Every distillation config on digits, blood smears and cards is wired, learns, and keeps its base's student."""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS, MODELS, TRANSFORMS
from pycocotools.coco import COCO

import tiny
from det_distill.dry_run import begun
from det_distill.student.model import student_model

ROOT = Path(__file__).parents[1]
METHODS = ("chen", "combined", "fgfi", "li", "recipe", "wei")
SIZES = dict(digits=(160, 160), bccd=(240, 320), cards=(256, 192))  # height, width
SMALL = [
    f"{method}/{path.stem}"
    for method in METHODS
    for family in SIZES
    for path in sorted((ROOT / "configs" / method).glob(f"{family}_*.py"))
]
CONFIGS = [name for name in SMALL if "quantised_teacher" not in name]
QUANTISED = [name for name in SMALL if "quantised_teacher" in name]
HALF_RES = [name for name in CONFIGS if name.endswith("_half-res")]
# A teacher of random weights is no better than its student, and its features round to 0.
MAY_BE_ZERO = ("BoundedRegression",)
ADAPTED = ("FeatureImitation", "ProposalMimic")


read, base_of = tiny.shipped, tiny.shipped_base


@cache
def build(name):
    """Built once; no test here counts on fresh weights."""
    return tiny.shipped_distiller(name)


def batch(name):
    return tiny.batch(size=SIZES[name.split("/")[1].split("_")[0]])


def test_every_method_has_a_pyramid_and_an_rfcn_on_digits():
    for method in METHODS:
        assert {f"{method}/digits_r18-half_r18-quarter", f"{method}/digits_rfcn_r18-half_r18-quarter"} <= {*CONFIGS}
        if method != "fgfi":
            assert {f"{method}/bccd_r18_r18-half", f"{method}/bccd_rfcn_r18_r18-half"} <= {*CONFIGS}
    assert {f"{method}/{pair}_half-res" for method in ("chen", "fgfi") for pair in
            ("digits_r18-half_r18-quarter", "cards_r18-half")} < {*HALF_RES}  # fmt: skip
    assert {f"fgfi/bccd_r18_r18-half_{kind}" for kind in ("full-feature", "gt-box", "mask-kd")} < {*CONFIGS}
    assert {f"chen/{pair}_{part}" for part in ("soft-labels", "bounded-boxes", "hint") for pair in
            ("bccd_r18_r18-half", "digits_r18-half_r18-quarter")} < {*CONFIGS}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_wired_and_its_student_is_the_base_configs(name):
    distiller, cfg = build(name), read(name)
    active = {key: term.type for key, term in cfg.model.terms.items() if term}
    assert set(distiller.terms) == set(active)
    adapters = {key.split(".")[0] for key, _ in distiller.terms.named_parameters() if key.endswith("conv.weight")}
    assert adapters == {key for key, kind in active.items() if kind in ADAPTED and key not in ("scores", "boxes")}
    assert {hook["type"] for hook in cfg.custom_hooks} >= {"AdapterStateHook", "ExactResumeHook"}
    assert student_model(cfg.model) == student_model(base_of(name).model)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_term_says_something_in_one_step(name):
    distiller = build(name)
    distiller.student.init_weights()
    for term in distiller.terms.values():
        term.schedule = None  # a warm-up begins at nothing
    losses = tiny.losses(distiller, batch(name))
    for key, term in distiller.terms.items():
        value = losses[f"loss_{key}"]
        assert value.isfinite()
        assert value.requires_grad
        assert value > 0 or type(term).__name__ in MAY_BE_ZERO
    assert all(torch.as_tensor(sum(x) if isinstance(x, list) else x).isfinite() for x in losses.values())


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_rfcn_" in name])
def test_on_r_fcn_both_maps_are_rectified_and_so_are_adapters_and_grids(name):
    distiller = build(name)
    for detector in (distiller.student, distiller.teacher.detector):
        with torch.no_grad():
            assert all(one.min() == 0 for one in detector.eval().extract_feat(torch.randn(1, 3, 64, 64)))
    for term in read(name).model.terms.values():
        assert "quantiser" not in term or not term.quantiser.signed
        assert term.type != "FeatureImitation" or term.mask.type == "FullMask" or term.adapter.relu


# ---------------------------------------------------------------- half the resolution


@pytest.mark.parametrize("name", HALF_RES)
def test_at_half_resolution_the_student_sees_half_of_what_the_teacher_sees(name):
    distiller, seen = build(name), {}
    begun(distiller)
    hooks = [
        detector.backbone.register_forward_pre_hook(
            lambda _, args, side=side: seen.setdefault(side, tuple(args[0].shape[2:])) and None
        )
        for side, detector in (("student", distiller.student), ("teacher", distiller.teacher.detector))
    ]
    tiny.losses(distiller, batch(name))
    for hook in hooks:
        hook.remove()
    assert tuple(2 * side for side in seen["student"]) == seen["teacher"]


@pytest.mark.parametrize("name", HALF_RES)
def test_at_half_resolution_a_test_image_is_half_as_large_as_a_training_image(name):
    cfg = read(name)
    height, width = SIZES[name.split("/")[1].split("_")[0]]
    for loader, share in (("train", 1), ("val", 2), ("test", 2)):
        step = next(step for step in cfg[f"{loader}_dataloader"].dataset.pipeline if step.type == "Resize")
        image = TRANSFORMS.build(step)(dict(img=np.zeros((2 * height, 2 * width, 3), np.uint8)))["img"]
        assert image.shape[:2] == (height // share, width // share)


# ---------------------------------------------------------------- quantised and staged


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_teacher_loads_the_full_precision_weights_strictly(name):
    quantised, plain = (MODELS.build(copy.deepcopy(one.model)) for one in (read(name), base_of(name)))
    quantised.load_state_dict(plain.state_dict(), strict=True)
    pairs = [one for one in CONFIGS if read(one).model.teacher.config == f"configs/{name}.py"]
    assert pairs
    for one in pairs:
        teacher, mimic = read(one).model.teacher, read(one).model.terms.mimic
        assert teacher.checkpoint == f"work_dirs/{Path(name).name}/epoch_{read(name).train_cfg.max_epochs}.pth"
        assert (mimic.quantiser.step, mimic.quantiser.signed) == (
            read(name).model.neck.step,
            read(name).model.neck.signed,
        )


def test_li_s_second_stage_begins_with_the_rpn_of_the_first():
    first, second = (build(f"li/digits_{stage}_r18-half_r18-quarter") for stage in ("rpn", "two-stage"))
    cfg = read("li/digits_two-stage_r18-half_r18-quarter")
    epochs = read("li/digits_rpn_r18-half_r18-quarter").train_cfg.max_epochs
    assert cfg.load_from == f"work_dirs/digits_rpn_r18-half_r18-quarter/epoch_{epochs}.pth"
    missing, unexpected = second.load_state_dict(first.state_dict(), strict=False)
    assert not unexpected
    assert all("roi_head." in key for key in missing)
    for part in ("backbone", "neck"):
        own, its = (getattr(model.student, part).state_dict() for model in (second, first))
        assert all(own[key].equal(its[key]) for key in its)
    its = first.student.bbox_head.state_dict()
    assert all(value.equal(its[key]) for key, value in second.student.rpn_head.state_dict().items())


def test_a_bare_rpn_is_judged_on_images_with_any_number_of_proposals(tmp_path):
    """MMDetection's `proposal_fast` stacks ragged lists, which numpy refuses since 1.24."""
    folder = tiny.write_dataset(tmp_path / "data", images=2)
    cfg = dict(read("li/digits_rpn_r18-half_r18-quarter").val_evaluator, ann_file=str(folder / "all.json"))
    metric = METRICS.build(cfg)
    metric.dataset_meta = dict(classes=tiny.CLASSES)
    truth = COCO(str(folder / "all.json"))
    samples = []
    for image in (0, 1):
        boxes = torch.tensor([one["bbox"] for one in truth.imgToAnns[image]], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.zeros(len(boxes), dtype=torch.long))
        samples.append(dict(img_id=image, pred_instances=found, ori_shape=(64, 96)))
    metric.process({}, samples)

    assert len({len(sample["pred_instances"]["bboxes"]) for sample in samples}) == 2
    assert metric.evaluate(size=2)["coco/AR@100"] == 1
