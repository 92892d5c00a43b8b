"""Does the teacher know its data? Its mAP on a few images, through its own preprocessing.

Why: weights that load strictly may still be shuffled, untrained, or of another data set with as many classes, and
a student that learns from them only ends a little worse, in silence.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger

from det_distill.configs import opened
from det_distill.refusals import at_least
from det_distill.stills import still_dataset
from det_distill.teachers.faculty import teachers_of
from det_distill.teachers.teacher import Teacher


def teacher_map(teacher: Teacher, cfg: Config, images: int) -> float:
    """COCO mAP of a teacher on images of a distillation config, in [0, 1], over the classes it shares with them.

    The images lie evenly spread over the validation split, or the training split where there is no other. They go
    through the pipeline of the teacher's own config (the student's, where that one has none) and the teacher's own
    mean, std, channel order and padding.

    Args:
        teacher: A teacher that tells the data set's classes apart.
        cfg: Config of the distillation run.
        images: How many at the most, at least 1.

    Raises:
        ValueError: The teacher is a bare RPN; there is no data set, it cannot be read, or none of the images has a box.
    """
    at_least("images", images, 1)
    if teacher.view.bare:
        raise ValueError("the teacher is a bare RPN, which has no mAP")
    split = "val" if (cfg.get("val_dataloader") or {}).get("dataset") else "train"
    dataset = still_dataset(cfg, split)
    own = _pipeline(teacher.config)
    pipeline = Compose(own) if own else dataset.pipeline
    chosen = np.unique(np.linspace(0, len(dataset) - 1, images).round().astype(int)).tolist()
    samples = [_sample(teacher, dataset.get_data_info(index), pipeline) for index in chosen]
    if not any(sample["instances"] for sample in samples):
        raise ValueError(f"{split}_dataloader.dataset: no boxes in {len(samples)} of its images; name more images")
    return _coco_map(samples, dataset.metainfo)


def demand(teacher: Teacher, found: float, least: float, images: int) -> None:
    """Refuse a teacher below a bar.

    Raises:
        ValueError: Its mAP is below; says what to look at.
    """
    if not found >= least:
        raise ValueError(
            f"the teacher reaches mAP {found:.3f} on {images} images, at least {least:g} is expected: is "
            f"{teacher.checkpoint} trained, and by {teacher.config.filename}, on these classes in this order?"
        )


def _pipeline(cfg: Config) -> list[dict[str, Any]]:
    """The test pipeline of a config; empty where it describes a model alone."""
    found = cfg
    for key in ("test_dataloader", "dataset", "pipeline"):
        found = found.get(key) or {}
    return list(found)


@torch.no_grad()
def _sample(teacher: Teacher, info: dict[str, Any], pipeline: Any) -> dict[str, Any]:
    """One image's detections and truth, in pixels of the file and in the data set's classes, as metrics take them."""
    truth = [dict(one) for one in info["instances"]]
    [found] = teacher.detector.test_step(pseudo_collate([pipeline(info)]))
    if teacher.class_map is not None:
        its, own = (list(classes) for classes in zip(*teacher.class_map, strict=True))
        truth = [one for one in truth if one["bbox_label"] in own]
        shown = found.pred_instances
        shown = shown[torch.isin(shown.labels, shown.labels.new_tensor(its))]
        shown.labels = shown.labels.new_tensor([own[its.index(label)] for label in shown.labels.tolist()])
        found.pred_instances = shown
    return dict(found.to_dict(), instances=truth)


def _coco_map(samples: Sequence[dict[str, Any]], metainfo: dict[str, Any]) -> float:
    metric = CocoMetric(metric="bbox")
    metric.dataset_meta = metainfo
    for index, sample in enumerate(samples):
        metric.process({}, [dict(sample, img_id=index)])
    with _quiet():
        found = metric.evaluate(len(samples))
    return float(found.get("coco/bbox_mAP", 0))  # MMDetection returns no number where nothing at all is detected


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No tables and no `bbox_mAP` line, which in a training's log would read as the student's."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def check_teacher(
    config: str, images: int = 32, min_map: float = 0.02, cfg_options: dict[str, Any] | None = None
) -> float:
    """Load each teacher of a distillation config strictly, print what was loaded and its mAP; return the least mAP.

    Args:
        config: Path of the distillation config.
        images: See `teacher_map`.
        min_map: The least mAP, in [0, 1].
        cfg_options: Dotted keys to change in the config.

    Raises:
        FileNotFoundError: A config or checkpoint is not there.
        ValueError: The config has no teacher, the weights do not fit, or the mAP is below `min_map`.
    """
    cfg = opened(config, cfg_options)
    if "teacher" not in cfg.model:
        raise ValueError(f"{config}: model.type='{cfg.model.get('type')}' has no teacher; a Distiller's is expected")
    found = []
    for teacher in teachers_of(cfg.model.teacher).values():
        weights = teacher.detector.state_dict().values()
        print(f"{teacher.checkpoint}: all {len(weights)} weights loaded ({sum(w.numel() for w in weights):,} numbers)")
        found.append(teacher_map(teacher, cfg, images))
        print(f"mAP {found[-1]:.3f} on {images} images (at least {min_map:g} wanted)")
        demand(teacher, found[-1], min_map, images)
    return min(found)
