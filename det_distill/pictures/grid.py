"""Pictures of one size side by side, with words."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from det_distill.pictures.draw import INK, PAPER, Colour, Picture, check_image

FAINT, BAND = (110, 114, 122), (236, 238, 242)
GAP = 12  # pixels between the pictures


def zoom_for(width: int, least: int = 240, most: int = 480) -> float:
    """How much to enlarge (by an integer) or shrink a picture of `width` to lie in a grid of readable size."""
    if width < 1:
        raise ValueError(f"width: want at least 1 pixel, got {width}")
    return math.ceil(least / width) if width < least else min(1.0, most / width)


def grid(
    cells: Sequence[Sequence[Picture]],
    columns: Sequence[str],
    rows: Sequence[str],
    captions: Sequence[Sequence[str]],
    title: str = "",
    legend: Sequence[tuple[str, Colour]] = (),
) -> Picture:
    """Lay pictures of one size out in rows, with a title per column and row and a caption under each.

    Args:
        cells: rows of images, each (H, W, 3) uint8.
        columns: one title per column.
        rows: one title per row, on a band above it.
        captions: one per image, laid out as `cells` is; shrunk to the image's width where too long.
        title: above everything.
        legend: names with their colours, under the title.

    Raises:
        ValueError: If there is nothing to show, the sizes differ or a list has another length.
    """
    if not cells or not cells[0]:
        raise ValueError("cells: want at least one row of at least one image, got none")
    layout = [len(row) for row in cells]
    if layout != [len(columns)] * len(rows) or layout != [len(row) for row in captions]:
        got = f"{layout}, {len(columns)} columns, {len(rows)} rows, captions {[len(row) for row in captions]}"
        raise ValueError(f"cells: want one per column in every row, and a caption each, got {got}")
    for image in (image for row in cells for image in row):
        check_image(image)
        if image.shape != cells[0][0].shape:
            raise ValueError(f"cells: want images of one size, got {cells[0][0].shape} and {image.shape}")
    height, width = cells[0][0].shape[:2]
    across = GAP + len(columns) * (width + GAP)
    places = _legend_places(legend, across)
    top = GAP + (34 if title else 0) + (24 * (places[-1][1] + 1) + 4 if places else 0)
    step = 30 + height + 32  # band, picture, caption
    canvas = Image.new("RGB", (across, top + 26 + step * len(rows) + GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    if title:
        _text(pen, GAP, GAP, title, 20, INK, across - 2 * GAP)
    for (name, colour), (x, line) in zip(legend, places, strict=True):
        y = GAP + (34 if title else 0) + 24 * line
        pen.rectangle((x, y + 2, x + 12, y + 14), fill=colour, outline=INK)
        _text(pen, x + 19, y, name, 14, INK, across)
    for j, name in enumerate(columns):
        _text(pen, GAP + j * (width + GAP), top, name, 14, FAINT, width)
    for i, name in enumerate(rows):
        y = top + 26 + i * step
        pen.rectangle((0, y, across, y + 24), fill=BAND)
        _text(pen, GAP, y + 3, name, 15, INK, across - 2 * GAP)
        for j, (image, caption) in enumerate(zip(cells[i], captions[i], strict=True)):
            x = GAP + j * (width + GAP)
            canvas.paste(Image.fromarray(image), (x, y + 31))
            _text(pen, x, y + 31 + height + 4, caption, 14, INK, width)
    return np.array(canvas)


def _legend_places(legend: Sequence[tuple[str, Colour]], across: int) -> list[tuple[int, int]]:
    """(x, line) of each entry, broken into lines that fit."""
    places, x, line = [], GAP, 0
    for name, _ in legend:
        wide = 19 + math.ceil(ImageFont.load_default(size=14).getlength(name)) + 20
        if x > GAP and x + wide > across:
            x, line = GAP, line + 1
        places.append((x, line))
        x += wide
    return places


def _text(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, size: int, colour: Colour, room: int) -> None:
    while size > 8 and ImageFont.load_default(size=size).getlength(text) > room:
        size -= 1
    pen.text((x, y), text, fill=colour, font=ImageFont.load_default(size=size))
