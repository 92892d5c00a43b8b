"""One image and its masks as a grid of pictures: a row per mask, a column per feature level."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample

from det_distill.pictures import draw
from det_distill.pictures.contenders import Contender
from det_distill.pictures.grid import grid, zoom_for
from det_distill.pictures.report import Slide
from det_distill.scene import Level, Scene, levels_of, prior_strides

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


def slide_of(
    index: int, image: draw.Picture, sample: DetDataSample, priors: Any, divisor: int, classes: Sequence[str]
) -> Slide:
    """An image padded as the student pads it, with its boxes, their colours and the levels of the student."""
    height, width = (-(-side // divisor) * divisor for side in image.shape[:2])
    strides = prior_strides(priors)
    labels = sample.gt_instances.labels.tolist()
    return Slide(
        name=f"{index:04d}_{Path(sample.metainfo.get('img_path') or 'image').stem}",
        image=draw.pad(image, (height, width)),
        scene=Scene.from_samples([sample]),
        levels=levels_of(priors, [(-(-height // s), -(-width // s)) for s in strides], strides),
        names=[classes[i] if i < len(classes) else f"class {i}" for i in labels],
        colours=[CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in labels],
    )


def sheet(slide: Slide, contenders: Sequence[Contender]) -> tuple[list[str], list[Row], draw.Picture]:
    """Titles of the columns, the rows, and the grid drawn: a row per mask, a column per level."""
    zoom = zoom_for(slide.image.shape[1])
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
    drawing = grid(cells, columns, [r.title for r in rows], [r.captions for r in rows], heading, legend)
    return columns, rows, drawing


def _column(level: Level) -> str:
    if not len(level.anchors):
        return f"{level.size[1]} x {level.size[0]} cells, a point each"
    sides = (level.anchors[:, 2:] - level.anchors[:, :2]).prod(dim=1).sqrt()  # of squares as large as the anchors
    spread = "-".join(dict.fromkeys(f"{side:.0f}" for side in (sides.min(), sides.max())))
    return f"{level.size[1]} x {level.size[0]} cells, anchors of {spread} px"
