"""Localisation distillation as a term: where, how sure, and MMDetection's LD beside it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config

import tiny
from det_distill.student.model import student_model
from det_distill.terms.response.localisation import LocalisationDistillation

CLASSES, BINS, GRIDS = 2, 3, [(2, 3), (1, 2)]


def maps(channels: int, seed: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *grid, generator=g) for grid in GRIDS]


def test_the_value_is_the_formula_cell_by_cell():
    g = torch.Generator().manual_seed(3)
    labels = [torch.randint(-1, CLASSES + 1, (2, h * w), generator=g) for h, w in GRIDS]  # -1 ignored, 2 background
    own, its, logits = maps(4 * BINS, 1), maps(4 * BINS, 2), maps(CLASSES, 3)
    total = 0.0
    for level, (h, w) in enumerate(GRIDS):
        for b in range(2):
            for y in range(h):
                for x in range(w):
                    if labels[level][b, y * w + x].item() in range(CLASSES):
                        sure = logits[level][b, :, y, x].sigmoid().max()
                        for side in range(4):
                            bins = slice(side * BINS, (side + 1) * BINS)
                            p, q = ((one[level][b, bins, y, x].double() / 5).softmax(0) for one in (own, its))
                            total += float(sure * (q * (q / p).log()).mean() / 4)
    term = LocalisationDistillation(temperature=5.0)
    term.bins, term.classes = BINS, CLASSES
    batch: Any = type("Batch", (), dict(samples=[None, None]))
    seen = {"head.deltas": own, "head.logits": logits, "head.targets": (None, labels)}
    assert total > 0
    assert term(seen, {"head.deltas": its}, batch).item() == pytest.approx(25 * total / 2, rel=1e-5)


def built(folder: Path, student: Any, teacher: Any) -> Any:
    term = dict(type="LocalisationDistillation", weight=1)
    return MODELS.build(tiny.distiller(student, tiny.write_teacher(folder, teacher), terms=dict(one=term)))


def bins(number: int) -> Any:
    model = tiny.single_stage("gfl", 12)
    model.bbox_head.reg_max = number
    return model


def coarser() -> Any:
    model = tiny.single_stage("gfl", 12)
    model.bbox_head.anchor_generator.strides = [16, 32, 64, 128, 256]
    model.neck.start_level = 2
    return model


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (lambda: tiny.single_stage("atss"), lambda: bins(16), "the student's ATSSHead has no box distributions; GFL's"),
        (lambda: tiny.single_stage("gfl"), lambda: tiny.single_stage("fcos", 12), "the teacher's FCOSHead has no box"),
        (lambda: tiny.single_stage("gfl"), lambda: bins(8), r"bbox_head\.reg_max=16 on the student, 8 on the teacher"),
        (
            lambda: tiny.single_stage("gfl"),
            coarser,
            r"'head\.deltas' has strides \[8, 16, 32, 64, 128\] on the student",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(student, teacher, said, tmp_path):
    with pytest.raises(ValueError, match=rf"terms\.one: .*{said}"):
        built(tmp_path, student(), teacher())


def test_the_roi_head_of_two_stages_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"terms\.one: the student has no tap 'head\.deltas'"):
        built(tmp_path, tiny.faster_rcnn(), tiny.faster_rcnn(12))


def test_the_config_on_coco_is_mmdetection_s_ld():
    ours, stock = tiny.shipped("ld/coco_gfl_r101_r18"), get_config("mmdet::ld/ld_r18-gflv1-r101_fpn_1x_coco.py")
    loss = stock.model.bbox_head.pop("loss_ld")
    for key in ("teacher_config", "teacher_ckpt"):
        stock.model.pop(key)
    stock.model.update(type="GFL")
    stock.model.bbox_head.update(type="GFLHead")
    student = student_model(ours.model)
    for part in (student, ours.optim_wrapper):
        part.pop("_scope_")  # of a base named mmdet::
    assert student == stock.model
    assert ours.optim_wrapper == stock.optim_wrapper
    [term] = ours.model.terms.values()
    images = ours.train_dataloader.batch_size
    assert (term.weight, term.temperature) == (loss.loss_weight * images, loss.T)


@pytest.mark.slow
def test_the_config_on_coco_is_wired():
    model = tiny.shipped_distiller("ld/coco_gfl_r101_r18")
    assert model.terms["boxes"].bins == 17
