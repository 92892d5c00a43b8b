"""Which cells of the feature maps would be imitated: a grid of pictures per image, and one page to look closer.

Why no student is built: a mask needs boxes, sizes and base anchors, and all three follow from the config. A teacher
runs for the page alone, which shows where it looks.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mmcv
from mmengine.config import ConfigDict
from mmengine.utils import track_iter_progress

from det_distill.configs import opened
from det_distill.pictures.attention import maps_of, teacher_for
from det_distill.pictures.contenders import fixed, near, own_contenders, prior_generator
from det_distill.pictures.report import report
from det_distill.pictures.sheets import Row, sheet, slide_of
from det_distill.scene import has_anchors, prior_strides
from det_distill.stills import picture, still_dataset
from det_distill.student.model import student_model


@dataclass(frozen=True)
class Page:
    """One image's grid and where it was written."""

    path: Path
    columns: list[str]
    rows: list[Row]


def compare_masks(
    config: str,
    images: int = 4,
    psi: Sequence[float] = (0.2, 0.5, 0.8),
    out: str | Path | None = None,
    split: str = "train",
    cfg_options: dict[str, Any] | None = None,
    checkpoint: str | None = None,
) -> list[Page]:
    """Draw the masks of the first `images` images: a row per mask, a column per feature level; and `index.html`.

    The rows are the config's own masks (of its FeatureImitation terms, if it is a Distiller's), then AnchorIoUMask
    at each psi, or PointMask of a student that judges points, GtBoxMask and FullMask. Images are resized as in the
    split's pipeline, or the test pipeline where that one draws lots; every other augmentation is left out.

    Args:
        config: path, or a name such as "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py".
        images: how many, at least 1; fewer where the data set has fewer.
        psi: shares of the best overlap, each in [0, 1].
        out: folder, made if missing; default work_dirs/<config name>/masks.
        split: "train", "val" or "test".
        cfg_options: dotted keys to change in the config.
        checkpoint: of the detector, or for a Distiller of its teacher in place of the config's: the page then shows
            where it looks.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If a setting is out of range, the config lacks a model, anchors or a data set, the data set is
            empty or `out` cannot be written.
    """
    if images < 1:
        raise ValueError(f"images: want at least 1, got {images}")
    if wrong := [p for p in psi if not 0 <= p <= 1]:
        raise ValueError(f"psi: want numbers in [0, 1], got {wrong[0]}")
    if split not in ("train", "val", "test"):
        raise ValueError(f"split: want train, val or test, got {split!r}")
    cfg = opened(config, cfg_options)
    model = cfg.get("model")
    if not model:
        raise ValueError(f"model: none in {config}; want a detector or a Distiller")
    student = ConfigDict(student_model(model))
    priors = prior_generator(student)
    own, anchors = own_contenders(model, prior_strides(priors)), has_anchors(priors)
    teacher, reason = teacher_for(config, model, checkpoint)
    dataset = still_dataset(cfg, split)
    folder = _folder(Path(out) if out is not None else Path("work_dirs") / Path(config).stem / "masks")

    divisor = (student.get("data_preprocessor") or {}).get("pad_size_divisor", 1)
    classes = dataset.metainfo.get("classes", ())
    pages, slides = [], []
    for index in track_iter_progress(range(min(images, len(dataset))), file=sys.stdout):
        slide = slide_of(index, *picture(dataset[index]), priors, divisor, classes)
        path = folder / f"{slide.name}.png"
        columns, rows, drawing = sheet(slide, [*own, *(near(psi) if anchors else ()), *fixed(points=not anchors)])
        mmcv.imwrite(drawing[..., ::-1], str(path))
        pages.append(Page(path, columns, rows))
        height, width = slide.scene.shapes[0]
        shown = maps_of(teacher, slide.image[:height, :width], slide.levels) if teacher else {}
        slides.append(replace(slide, maps=shown))
    print(f"{len(pages)} picture(s) in {folder}")
    html = folder / "index.html"
    remark = "" if teacher else f"Left out, what a trained teacher shows: {reason}."
    html.write_text(report(Path(config).stem, slides, [*fixed(), *own], remark), encoding="utf-8")
    print(f"look closer: {html}")
    return pages


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ValueError(f"out: cannot write to {out}: {error.strerror}") from error
    return out
