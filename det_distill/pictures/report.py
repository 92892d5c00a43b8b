"""The page that compares masks by eye: one HTML file that needs nothing beside it.

Why one mask is worked out in the page: its setting is a slider there, psi of the anchor-IoU mask or, where the student
judges points, the reach of the point mask. Every other mask travels with it, packed.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from det_distill.masks import AnchorIoUMask, FullMask, PointMask
from det_distill.masks.anchor_iou import ASSIGNMENTS
from det_distill.pictures.contenders import Contender
from det_distill.pictures.draw import Colour, Picture
from det_distill.scene import Level, Scene

SCRIPTS = ("masks", "drawing", "panel", "page")
QUALITY = 88  # of the photos' JPEG; a page of four 1333x800 photos has about 2 MB


@dataclass(frozen=True)
class Slide:
    """One image as the student is fed it.

    Attributes:
        name: What the chooser calls it.
        image: (H, W, 3) uint8 RGB, padded as the student pads.
        scene: Of this one image.
        levels: The student's, on the padded image.
        names: Class of each box.
        colours: Of each box.
        maps: What else there is to choose, by title: per level (h, w) bool, or uint8 of 0 to 255 for 0 to 1 that the
            page shows as heat from a threshold on; None on a level it says nothing of. The same titles on every slide.
    """

    name: str
    image: Picture
    scene: Scene
    levels: list[Level]
    names: list[str]
    colours: list[Colour]
    maps: Mapping[str, Sequence[NDArray[Any] | None]] = field(default_factory=dict)


def report(title: str, slides: Sequence[Slide], contenders: Sequence[Contender], remark: str = "") -> str:
    """The whole page as text.

    Args:
        title: Its heading.
        slides: The images to choose from, at least one.
        contenders: The masks to choose from beside the one that the page works out itself: the anchor-IoU mask, of
            levels without anchors the point mask. The first of its kind among them sets its sliders.
        remark: A line below everything, for example of what is left out.

    Raises:
        ValueError: There is no image.
    """
    if not slides:
        raise ValueError("slides: want at least one image, got none")
    mine = next((c.mask for c in contenders if isinstance(c.mask, AnchorIoUMask)), AnchorIoUMask())
    points = next((c.mask for c in contenders if isinstance(c.mask, PointMask)), PointMask())
    payload = dict(
        kind="anchor" if any(len(level.anchors) for level in slides[0].levels) else "point",
        reach=points.reach,
        psi=mine.psi,
        assignment=mine.level_assignment,
        assignments=ASSIGNMENTS,
        finest=mine.finest_scale,
        masks=[contender.title for contender in contenders] + list(slides[0].maps),
        remark=remark,
        images=[_slide(slide, contenders) for slide in slides],
    )
    parts = {
        "title": html.escape(title),
        "style": _part("masks.css"),
        "data": _inert(payload),
        "script": '"use strict";\n\n' + "\n".join(_part(f"{name}.js") for name in SCRIPTS),
    }
    page = _part("masks.html")
    for name, text in parts.items():  # what comes from outside holds no "<", so it is no place to fill in
        page = page.replace(f"<!--{name}-->", text)
    return page


def _part(name: str) -> str:
    return (files("det_distill.pictures") / "page" / name).read_text(encoding="utf-8")


def _inert(payload: Any) -> str:
    """JSON that may stand inside a script element: no character of it can end the element or begin a comment."""
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)  # ASCII
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _slide(slide: Slide, contenders: Sequence[Contender]) -> dict[str, Any]:
    height, width = slide.scene.shapes[0]
    allowed = FullMask()(slide.scene, slide.levels)
    return dict(
        name=slide.name,
        photo=_jpeg(slide.image[:height, :width]),
        size=[height, width],
        padded=slide.image.shape[:2],
        boxes=slide.scene.boxes[0].tolist(),
        names=slide.names,
        colours=["#" + bytes(colour).hex() for colour in slide.colours],
        ignored=slide.scene.ignored[0].tolist(),
        levels=[
            dict(
                size=level.size,
                stride=level.stride,
                anchors=level.anchors.tolist(),
                allowed=_text(mask[0].numpy()),
            )
            for level, mask in zip(slide.levels, allowed, strict=True)
        ],
        masks=[
            *(_packed(contender.on(slide.scene, slide.levels)) for contender in contenders),
            *(_packed(maps) for maps in slide.maps.values()),
        ],
    )


def _packed(maps: Sequence[NDArray[Any] | None]) -> list[dict[str, str] | None]:
    return [one if one is None else {"bits" if one.dtype == bool else "bytes": _text(one)} for one in maps]


def _text(cells: NDArray[Any]) -> str:
    """Row by row, base64: eight cells of a mask a byte, the first in the highest bit; a cell of other maps a byte."""
    return base64.b64encode((np.packbits(cells) if cells.dtype == bool else cells).tobytes()).decode()


def _jpeg(image: Picture) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
