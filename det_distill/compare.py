"""Which cells of the feature maps would be imitated: the masks side by side, a grid of pictures per image.

Why no network is built: a mask needs boxes, sizes and base anchors, and all three follow from the config.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.utils import track_iter_progress

from det_distill import draw
from det_distill.configs import load_config, override, student_model
from det_distill.masks import AnchorIoUMask, FullMask, GtBoxMask, Mask
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
) -> list[Page]:
    """Draw the masks of the first `images` images: a row per mask, a column per feature level.

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

    Raises:
        FileNotFoundError: If there is no such config.
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
    priors = _prior_generator(student)
    own, others = _own_masks(model, prior_strides(priors)), _standard_masks(psi)
    dataset = still_dataset(cfg, split)
    folder = _folder(Path(out) if out is not None else Path("work_dirs") / Path(config).stem / "masks")

    divisor = (student.get("data_preprocessor") or {}).get("pad_size_divisor", 1)
    classes = dataset.metainfo.get("classes", ())
    pages = []
    for index in track_iter_progress(range(min(images, len(dataset))), file=sys.stdout):
        image, sample = picture(dataset[index])
        name = Path(sample.metainfo.get("img_path") or "image").stem
        path = folder / f"{index:04d}_{name}.png"
        page, drawing = _page(path, image, sample, [*own, *others], len(own), priors, divisor, classes)
        mmcv.imwrite(drawing[..., ::-1], str(path))
        pages.append(page)
    print(f"{len(pages)} picture(s) in {folder}")
    return pages


def _page(
    path: Path,
    image: draw.Picture,
    sample: DetDataSample,
    masks: list[tuple[str, Mask, Sequence[int] | None]],
    owned: int,
    priors: Any,
    divisor: int,
    classes: Sequence[str],
) -> tuple[Page, draw.Picture]:
    height, width = (-(-side // divisor) * divisor for side in image.shape[:2])
    strides = prior_strides(priors)
    levels = levels_of(priors, [(-(-height // s), -(-width // s)) for s in strides], strides)
    scene = Scene.from_samples([sample])

    zoom = draw.zoom_for(width)
    padding = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    canvas = draw.resize(np.pad(image, padding), zoom)
    truth = sample.gt_instances
    names = [classes[i] if i < len(classes) else f"class {i}" for i in truth.labels.tolist()]
    colours = [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in truth.labels.tolist()]
    legend = list(dict(zip(names, colours, strict=True)).items())
    if len(scene.ignored[0]):
        legend.append(("ignored", IGNORED))

    rows: list[Row] = []
    cells: list[list[draw.Picture]] = []
    for number, (title, mask, wanted) in enumerate(masks):
        compared = [wanted is None or s in wanted for s in strides]
        # The mask sees the compared levels only, as in training: a box's level depends on how many there are.
        found = iter(mask(scene, [level for level, is_so in zip(levels, compared, strict=True) if is_so]))
        on = [
            next(found)[0].numpy() if is_so else np.zeros(level.size, dtype=bool)
            for level, is_so in zip(levels, compared, strict=True)
        ]
        colour = OWN if number < owned else OTHER
        counts = [(int(m.sum()), m.size) for m in on]
        captions = [
            f"stride {s}: {some} of {every} cells" if is_so else f"stride {s}: not compared"
            for s, (some, every), is_so in zip(strides, counts, compared, strict=True)
        ]
        rows.append(Row(title, counts, captions))
        cells.append([])
        for m, level in zip(on, levels, strict=True):
            tinted = draw.overlay(canvas, m, (level.stride[0] * zoom, level.stride[1] * zoom), colour)
            tinted = draw.boxes(tinted, scene.ignored[0].numpy() * zoom, IGNORED, width=1)
            cells[-1].append(draw.boxes(tinted, scene.boxes[0].numpy() * zoom, colours, width=1))
    columns = [_column(level) for level in levels]
    heading = f"{path.stem}: {image.shape[1]} x {image.shape[0]} pixels, {len(names)} boxes"
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


def _prior_generator(student: ConfigDict) -> Any:
    for head in ("rpn_head", "bbox_head"):
        if "anchor_generator" in student.get(head, {}):
            return TASK_UTILS.build(student[head].anchor_generator)
    raise ValueError(
        f"model: want rpn_head.anchor_generator or bbox_head.anchor_generator, found none in {student.get('type')}"
    )


def _own_masks(model: ConfigDict, known: Sequence[int]) -> list[tuple[str, Mask, Sequence[int] | None]]:
    """Title, mask and compared strides of each FeatureImitation term."""
    if model.type != "Distiller":
        return []
    own: list[tuple[str, Mask, Sequence[int] | None]] = []
    for name, term in (model.get("terms") or {}).items():
        if term and term.get("type") == "FeatureImitation" and term.get("mask"):
            strides = term.get("strides")
            if strides is not None and not set(strides) & set(known):
                raise ValueError(f"model.terms.{name}.strides: want some of {list(known)}, got {list(strides)}")
            own.append((f"this config's term {name!r}: {_spell(term.mask)}", TASK_UTILS.build(term.mask), strides))
    return own


def _spell(mask: ConfigDict) -> str:
    return ", ".join([str(mask.type), *(f"{key} {value}" for key, value in mask.items() if key != "type")])


def _standard_masks(psi: Sequence[float]) -> list[tuple[str, Mask, None]]:
    near = [(f"AnchorIoUMask, psi {p:g}", AnchorIoUMask(psi=p), None) for p in psi]
    return [*near, ("GtBoxMask", GtBoxMask(), None), ("FullMask", FullMask(), None)]
