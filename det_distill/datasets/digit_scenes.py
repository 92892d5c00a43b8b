"""Scenes of digits: glyphs strewn over clutter, every one of them mostly visible, with a box around its ink."""

import itertools

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from det_distill.datasets.writers import Item

Array = NDArray[np.float32]

CLASSES = tuple("0123456789")
SIDE = 160  # px
HEIGHT = (20, 64)  # px, before tilting
TILT = 25  # degrees
MAX_COVER = 0.18  # of the smaller of two boxes; their IoU is then below 0.1
MIN_VISIBLE = 0.85  # of a digit's ink
CONTRAST = (32, 95)  # grey levels beyond the lightest or darkest tenth of what lies below
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Glyphs = dict[int, Array]  # label -> (N, 8, 8), ink from 0 to 1


def compose(rng: Generator, glyphs: Glyphs) -> tuple[NDArray[np.uint8], list[Item]]:
    """Paints one scene.

    Returns:
        (SIDE, SIDE, 3) RGB, and 1 to 6 digits with tight boxes around the ink that is still visible, inside the image.
    """
    canvas = _ground(rng)
    _strew(rng, canvas, glyphs)
    owner = np.full((SIDE, SIDE), -1)  # which digit's ink is on top at a pixel
    labels: list[int] = []
    inked: list[int] = []  # pixels, before anything came on top
    wanted = rng.integers(1, 7)
    for _ in range(40):
        if len(labels) == wanted:
            break
        label = int(rng.integers(len(CLASSES)))
        alpha = _enlarge(glyphs[label][rng.integers(len(glyphs[label]))], _height(rng), rng.uniform(-TILT, TILT), rng)
        y, x = (int(rng.integers(0, SIDE - n)) for n in alpha.shape)  # keeps the last row and column free for VOC
        below = canvas[y : y + alpha.shape[0], x : x + alpha.shape[1]]
        tried = owner.copy()
        tried[y : y + alpha.shape[0], x : x + alpha.shape[1]][alpha >= 0.5] = len(labels)
        total = [*inked, int((alpha >= 0.5).sum())]
        colour = _contrasting(rng, below, *CONTRAST)
        if colour is None or not _fair(tried, total):
            continue
        below += alpha[..., None] * (colour - below)
        owner, inked = tried, total
        labels.append(label)
    canvas += np.float32(rng.uniform(2, 9)) * rng.standard_normal(canvas.shape, np.float32)
    items = [
        Item(CLASSES[label], _tight(owner == i), occluded=int((owner == i).sum()) < inked[i])
        for i, label in enumerate(labels)
    ]
    return canvas.clip(0, 255).round().astype(np.uint8), items


def _fair(owner: NDArray[np.int64], inked: list[int]) -> bool:
    """Every digit is still mostly visible, and no two boxes share too much."""
    inks = [owner == i for i in range(len(inked))]
    if any(ink.sum() < MIN_VISIBLE * n for ink, n in zip(inks, inked, strict=True)):
        return False
    for (ax, ay, bx, by), (x1, y1, x2, y2) in itertools.combinations(map(_tight, inks), 2):
        shared = max(0, min(bx, x2) - max(ax, x1)) * max(0, min(by, y2) - max(ay, y1))
        if shared > MAX_COVER * min((bx - ax) * (by - ay), (x2 - x1) * (y2 - y1)):
            return False
    return True


def _tight(ink: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) in px around what is true; x2 and y2 are one past the last."""
    ys, xs = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _height(rng: Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(HEIGHT))))


def _enlarge(glyph: Array, height: float, tilt: float, rng: Generator) -> Array:
    """Ink (h, w) from 0 to 1 of a glyph drawn `height` px tall, tilted by degrees, with no empty border."""
    reach = int(1.5 * height) + 8
    turn = cv2.getRotationMatrix2D((0, 0), tilt, 1)[:, :2] * (height / 8)
    turn[:, 0] *= rng.uniform(0.8, 1.15)  # wider or narrower
    shift = reach / 2 - turn @ (3.5, 3.5)
    matrix = np.column_stack([turn, shift])
    grey = cv2.warpAffine(glyph, matrix, (reach, reach), flags=cv2.INTER_CUBIC)
    alpha = ((grey - 0.25) / 0.3).clip(0, 1)
    x1, y1, x2, y2 = _tight(alpha > 0)
    return alpha[y1:y2, x1:x2]


def _contrasting(rng: Generator, below: Array, low: float, high: float) -> Array | None:
    """An RGB colour lighter or darker than nearly all of `below` (h, w, 3); None if neither has room."""
    dark, light = np.percentile(below @ LUMA, (10, 90))
    room = {1: 250 - light, -1: dark - 5}
    ways = [way for way, levels in room.items() if levels >= low]
    if not ways:
        return None
    way = rng.choice(ways)
    level = (light if way > 0 else dark) + way * rng.uniform(low, min(high, room[way]))
    tint = rng.normal(0, 25, 3)
    return (level + tint - tint @ LUMA).clip(0, 255).astype(np.float32)


def _noise(rng: Generator, cells: int) -> Array:
    """(SIDE, SIDE) smooth noise, about 0 to 1, with `cells` bumps a side."""
    bumps = cv2.resize(rng.random((cells, cells), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(bumps, np.float32)


def _ground(rng: Generator) -> Array:
    """(SIDE, SIDE, 3), 0 to 255: two colours mixed by a gradient, noise at three scales and stripes."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    (c, s), (c2, s2) = ((np.cos(a), np.sin(a)) for a in rng.uniform(0, 2 * np.pi, 2))
    rough = _noise(rng, 4)
    stripes = 0.5 + 0.5 * np.sin(rng.uniform(25, 110) * (c2 * x + s2 * y) + 4 * rough)
    layers = np.stack([0.5 + 0.5 * (c * x + s * y), rough, _noise(rng, 12), _noise(rng, 40), stripes])
    field = np.tensordot(rng.dirichlet(np.ones(len(layers))), layers, 1)[..., None]
    colour = rng.uniform(50, 205) + rng.normal(0, 22, 3)
    return (colour + rng.normal(0, 45, 3) * (field - 0.5) + rng.normal(0, 45) * (field - 0.5)).astype(np.float32)


def _strew(rng: Generator, canvas: Array, glyphs: Glyphs) -> None:
    """Paints 5 to 12 things on the canvas that are no digits: strokes, arcs, blobs, pieces of glyphs."""
    for kind in rng.choice(["stroke", "arc", "blob", "piece"], rng.integers(5, 13)):
        mask = np.zeros((SIDE, SIDE), np.uint8)  # OpenCV smooths the edges of lines on bytes only
        centre = rng.integers(0, SIDE, 2).tolist()
        thick, turn = int(rng.integers(1, 6)), rng.uniform(0, 360)
        if kind == "stroke":  # well off the upright, else it might pass for a 1
            angle, length = np.radians(rng.uniform(-50, 50)), rng.uniform(8, 45)
            tip = np.round(length * np.array([np.cos(angle), np.sin(angle)])).astype(int)
            cv2.line(mask, (centre - tip).tolist(), (centre + tip).tolist(), 255, thick, cv2.LINE_AA)
        elif kind == "arc":  # under half a turn, else it might pass for a 0; thin and bent, else for a 1
            axes = rng.integers(9, 32, 2).tolist()
            cv2.ellipse(mask, centre, axes, turn, 0, rng.uniform(80, 170), 255, min(thick, 3), cv2.LINE_AA)
        elif kind == "blob":  # roundish, else it might pass for a 1
            wide = int(rng.integers(3, 16))
            cv2.ellipse(mask, centre, [wide, int(0.7 * wide)], turn, 0, 360, 255, -1, cv2.LINE_AA)
            cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 3), dst=mask)
        else:  # two fifths of a digit none of whose ends is another digit, and turned too far to be read
            whole = glyphs[int(rng.choice([0, 2, 3, 5]))]
            part = whole[rng.integers(len(whole))].copy()
            part[3:] = 0
            alpha = _enlarge(part, _height(rng), rng.uniform(60, 300), rng)
            y, x = (int(rng.integers(0, SIDE - n)) for n in alpha.shape)
            mask[y : y + alpha.shape[0], x : x + alpha.shape[1]] = 255 * alpha
        if not mask.any():
            continue
        x1, y1, x2, y2 = _tight(mask > 0)
        below = canvas[y1:y2, x1:x2]
        colour = _contrasting(rng, below, 10, 70)
        if colour is not None:
            below += mask[y1:y2, x1:x2, None] / np.float32(255) * (colour - below)
