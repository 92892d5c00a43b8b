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
import numpy as np
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.utils import track_iter_progress

from det_distill import draw
from det_distill.attention import maps_of, teacher_for
from det_distill.configs import load_config, override, student_model
from det_distill.contenders import Contender, fixed, near, own_contenders, prior_generator
from det_distill.report import Slide, report
from det_distill.scene import Level, Scene, levels_of, prior_strides
from det_distill.stills import picture, still_dataset

OWN, OTHER, IGNORED = (240, 110, 20), (0, 170, 120), (150, 150, 150)
CLASS_COLOURS = (  # light ones, after Okabe and Ito: they stand off both tints and a darkened ground
    *((240, 228, 66), (255, 255, 255), (255, 150, 205), (120, 205, 255)),
    *((255, 190, 90), (190, 255, 150), (200, 170, 255), (255, 130, 110)),
)


@dataclass(frozen=True)
class Row:
    """One mask on one image: `counts` holds (cells on, cells) per level."""

    title: str
    counts: list[tuple[int, int]]
    captions: list[str]


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
    at each psi, GtBoxMask and FullMask. Images are resized as in the split's pipeline, or the test pipeline where
    that one draws lots; every other augmentation is left out.

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
    register_all_modules()
    cfg = load_config(config, "config")
    override(cfg, cfg_options)
    model = cfg.get("model")
    if not model:
        raise ValueError(f"model: none in {config}; want a detector or a Distiller")
    student = ConfigDict(student_model(model))
    priors = prior_generator(student)
    own = own_contenders(model, prior_strides(priors))
    teacher, reason = teacher_for(config, model, checkpoint)
    dataset = still_dataset(cfg, split)
    folder = _folder(Path(out) if out is not None else Path("work_dirs") / Path(config).stem / "masks")

    divisor = (student.get("data_preprocessor") or {}).get("pad_size_divisor", 1)
    classes = dataset.metainfo.get("classes", ())
    pages, slides = [], []
    for index in track_iter_progress(range(min(images, len(dataset))), file=sys.stdout):
        slide = _slide(index, *picture(dataset[index]), priors, divisor, classes)
        path = folder / f"{slide.name}.png"
        page, drawing = _sheet(path, slide, [*own, *near(psi), *fixed()])
        mmcv.imwrite(drawing[..., ::-1], str(path))
        pages.append(page)
        height, width = slide.scene.shapes[0]
        shown = maps_of(teacher, slide.image[:height, :width], slide.levels) if teacher else {}
        slides.append(replace(slide, maps=shown))
    print(f"{len(pages)} picture(s) in {folder}")
    html = folder / "index.html"
    remark = "" if teacher else f"Left out, what a trained teacher shows: {reason}."
    html.write_text(report(Path(config).stem, slides, [*fixed(), *own], remark), encoding="utf-8")
    print(f"look closer: {html}")
    return pages


def _slide(
    index: int, image: draw.Picture, sample: DetDataSample, priors: Any, divisor: int, classes: Sequence[str]
) -> Slide:
    """An image padded as the student pads it, with its boxes, their colours and the levels of the student."""
    height, width = (-(-side // divisor) * divisor for side in image.shape[:2])
    padding = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    strides = prior_strides(priors)
    labels = sample.gt_instances.labels.tolist()
    return Slide(
        name=f"{index:04d}_{Path(sample.metainfo.get('img_path') or 'image').stem}",
        image=np.pad(image, padding),
        scene=Scene.from_samples([sample]),
        levels=levels_of(priors, [(-(-height // s), -(-width // s)) for s in strides], strides),
        names=[classes[i] if i < len(classes) else f"class {i}" for i in labels],
        colours=[CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in labels],
    )


def _sheet(path: Path, slide: Slide, contenders: Sequence[Contender]) -> tuple[Page, draw.Picture]:
    """The grid of one image."""
    zoom = draw.zoom_for(slide.image.shape[1])
    canvas = draw.resize(slide.image, zoom)
    boxes, ignored = (found[0].numpy() for found in (slide.scene.boxes, slide.scene.ignored))
    legend = list(dict(zip(slide.names, slide.colours, strict=True)).items())
    if len(ignored):
        legend.append(("ignored", IGNORED))

    rows: list[Row] = []
    cells: list[list[draw.Picture]] = []
    for contender in contenders:
        colour = OWN if contender.own else OTHER
        row, pictures = Row(contender.title, [], []), []
        for found, level in zip(contender.on(slide.scene, slide.levels), slide.levels, strict=True):
            on = np.zeros(level.size, dtype=bool) if found is None else found
            said = "not compared" if found is None else f"{on.sum()} of {on.size} cells"
            row.counts.append((int(on.sum()), on.size))
            row.captions.append(f"stride {level.stride[0]}: {said}")
            tinted = draw.overlay(canvas, on, (level.stride[0] * zoom, level.stride[1] * zoom), colour)
            tinted = draw.boxes(tinted, ignored * zoom, IGNORED, width=1)
            pictures.append(draw.boxes(tinted, boxes * zoom, slide.colours, width=1))
        rows.append(row)
        cells.append(pictures)
    columns = [_column(level) for level in slide.levels]
    height, width = slide.scene.shapes[0]
    heading = f"{slide.name}: {width} x {height} pixels, {len(boxes)} boxes"
    drawing = draw.grid(cells, columns, [r.title for r in rows], [r.captions for r in rows], heading, legend)
    return Page(path, columns, rows), drawing


def _column(level: Level) -> str:
    sides = (level.anchors[:, 2:] - level.anchors[:, :2]).prod(dim=1).sqrt()  # of squares as large as the anchors
    spread = "-".join(dict.fromkeys(f"{side:.0f}" for side in (sides.min(), sides.max())))
    return f"{level.size[1]} x {level.size[0]} cells, anchors of {spread} px"


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ValueError(f"out: cannot write to {out}: {error.strerror}") from error
    return out
