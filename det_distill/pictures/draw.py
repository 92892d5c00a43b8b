"""Pictures of masks on images: arrays in, a new image out.

Images are (H, W, 3) uint8, RGB. No function paints on what it was given.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

INK, PAPER = (28, 30, 36), (255, 255, 255)
BORDERED = 8  # cells at least this many pixels wide get a border; smaller ones would be all border


def check_image(image: Picture) -> None:
    """Whether it is one.

    Raises:
        ValueError: It is of another shape or type, or empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image: want uint8 (H, W, 3), got {image.dtype} {image.shape}")


def resize(image: Picture, zoom: float) -> Picture:
    """A copy, `zoom` times as large, at least one pixel each way."""
    check_image(image)
    if not (math.isfinite(zoom) and zoom > 0):
        raise ValueError(f"zoom: want a positive number, got {zoom}")
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def pad(image: Picture, size: tuple[int, int]) -> Picture:
    """A copy with black to the right and below, up to (height, width)."""
    check_image(image)
    return np.pad(image, ((0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0)))


def overlay(
    image: Picture,
    mask: NDArray[np.bool_],
    stride: tuple[float, float],
    colour: Colour = (0, 170, 120),
    opacity: float = 0.5,
    shade: float = 0.3,
) -> Picture:
    """Tint the cells that are on, darken and pale the others a little; outline what is on.

    Args:
        image: (H, W, 3) uint8.
        mask: (h, w) bool; cell (i, j) covers pixels from (i * y, j * x). The last row and column may stick out.
        stride: (x, y), pixels of `image` per cell; may be fractional.
        colour: of the cells that are on.
        opacity: of the tint, in [0, 1].
        shade: how far cells that are off go towards black, in [0, 1].

    Raises:
        ValueError: On another shape or dtype, or if the cells cover the image not at all or not just (to a pixel).
    """
    check_image(image)
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise ValueError(f"mask: want bool (h, w), got {mask.dtype} {mask.shape}")
    for name, share in (("opacity", opacity), ("shade", shade)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}: want a number in [0, 1], got {share}")
    paint = np.asarray(_checked_colour(colour), dtype=np.float64)
    cell_y = _cell_of_pixel(image.shape[0], mask.shape[0], stride[1], "rows")
    cell_x = _cell_of_pixel(image.shape[1], mask.shape[1], stride[0], "columns")

    on = mask[np.ix_(cell_y, cell_x)]  # (H, W), per pixel
    pixels = image.astype(np.float64)
    grey = pixels.mean(axis=2, keepdims=True)  # under the tint and half way elsewhere: the photo's hues are no mask
    out = np.where(on[..., None], (1 - opacity) * grey + opacity * paint, (1 - shade) * (pixels + grey) / 2)
    if min(stride) >= BORDERED:
        border = np.zeros(on.shape, dtype=bool)
        border[1:] |= (cell_y[1:] != cell_y[:-1])[:, None]
        border[:, 1:] |= cell_x[1:] != cell_x[:-1]
        out[border & on] = 0.4 * out[border & on] + 0.6 * (0.75 * paint)
        out[border & ~on] *= 0.8
    out[_rim(on)] = 0.5 * paint  # darker than the tint, so that a full cell still has an edge
    return np.asarray(out.round(), dtype=np.uint8)


def heat(image: Picture, values: NDArray[np.floating], stride: tuple[float, float], colour: Colour) -> Picture:
    """Tint each cell by its value, over a grey and darkened image: none at 0, wholly at 1 and above.

    Args:
        image: (H, W, 3) uint8.
        values: (h, w), at least 0; cells lie as in `overlay`.
        stride: (x, y), pixels of `image` per cell; may be fractional.
        colour: of a value of 1.

    Raises:
        ValueError: On another shape, values below 0 or that are no numbers, or cells that do not just cover the image.
    """
    check_image(image)
    if values.ndim != 2 or not values.size or not (values >= 0).all():
        raise ValueError(f"values: want (h, w) of at least 0, got {values.shape} from {values.min(initial=0):g}")
    cell_y = _cell_of_pixel(image.shape[0], values.shape[0], stride[1], "rows")
    cell_x = _cell_of_pixel(image.shape[1], values.shape[1], stride[0], "columns")
    share = np.minimum(values[np.ix_(cell_y, cell_x)], 1)[..., None]  # (H, W, 1)
    grey = 0.5 * image.astype(np.float64).mean(axis=2, keepdims=True)
    return np.asarray(((1 - share) * grey + share * np.array(_checked_colour(colour))).round(), dtype=np.uint8)


def boxes(
    image: Picture,
    xyxy: NDArray[np.floating],
    colours: Sequence[Colour] | Colour = PAPER,
    labels: Sequence[str] | None = None,
    width: int = 2,
) -> Picture:
    """Outline boxes, each line with a thin dark edge so that it shows on any ground.

    Args:
        image: (H, W, 3) uint8.
        xyxy: (N, 4), pixels of `image`; may reach outside it.
        colours: one for all or one per box.
        labels: text at each box's upper left corner, or None.
        width: of the line, pixels.

    Raises:
        ValueError: On another shape or dtype, boxes that are not finite or inside out, or a list of another length.
    """
    check_image(image)
    if xyxy.ndim != 2 or xyxy.shape[1] != 4 or not np.isfinite(xyxy).all():
        raise ValueError(f"xyxy: want finite (N, 4), got {xyxy.dtype} {xyxy.shape}")
    if (xyxy[:, 2:] < xyxy[:, :2]).any():
        raise ValueError(f"xyxy: want x1 <= x2 and y1 <= y2, got {xyxy[(xyxy[:, 2:] < xyxy[:, :2]).any(1)][0]}")
    per_box = [_checked_colour(c) for c in ([colours] * len(xyxy) if _is_colour(colours) else colours)]
    for name, count in (("colours", len(per_box)), ("labels", len(xyxy) if labels is None else len(labels))):
        if count != len(xyxy):
            raise ValueError(f"{name}: want one per box, {len(xyxy)}, got {count}")
    canvas = Image.fromarray(image.copy())
    pen = ImageDraw.Draw(canvas)
    corners = [tuple(map(int, box)) for box in np.clip(np.rint(xyxy), -(2**20), 2**20).tolist()]
    for x1, y1, x2, y2 in corners:
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=INK, width=width + 2)
    for box, colour in zip(corners, per_box, strict=True):
        pen.rectangle(box, outline=colour, width=width)
    for (x1, y1, _, _), colour, text in zip(corners, per_box, labels or (), strict=False):
        font = ImageFont.load_default(size=11)
        place = pen.textbbox((max(0, x1) + 3, max(0, y1) + 1), text, font=font)
        pen.rectangle((place[0] - 2, place[1] - 1, place[2] + 2, place[3] + 1), fill=INK)
        pen.text((max(0, x1) + 3, max(0, y1) + 1), text, fill=colour, font=font)
    return np.array(canvas)


def _cell_of_pixel(pixels: int, cells: int, stride: float, what: str) -> NDArray[np.int64]:
    if not stride > 0 or not (cells * stride > pixels - 1 and (cells - 1) * stride < pixels + 1):
        raise ValueError(f"mask: {cells} {what} of stride {stride} do not just cover {pixels} pixels")
    return np.asarray(np.minimum((np.arange(pixels) + 0.5) // stride, cells - 1), dtype=np.int64)


def _rim(on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that are on and have one of four neighbours that is off."""
    ring = np.pad(on, 1, mode="edge")
    return on & ~(ring[:-2, 1:-1] & ring[2:, 1:-1] & ring[1:-1, :-2] & ring[1:-1, 2:])


def _is_colour(value: Sequence[Colour] | Colour) -> bool:
    return len(value) == 3 and all(isinstance(part, int) for part in value)


def _checked_colour(colour: object) -> Colour:
    if isinstance(colour, tuple) and len(colour) == 3 and all(part in range(256) for part in colour):
        return colour
    raise ValueError(f"colour: want three integers of 0 to 255, got {colour!r}")
