"""Annotation files as they are written, for `check`: MMDetection's loaders skip in silence what is to be found here."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from det_distill.compat.checkpoints import nearest_file
from det_distill.datasets import sound_xml
from det_distill.datasets.inside import inside, plain_file
from det_distill.datasets.kitti import IMAGES
from det_distill.datasets.kitti_labels import BOX, COLUMNS
from det_distill.datasets.plain_text import decoded


@dataclass(frozen=True)
class Box:
    """A class name and (x1, y1, x2, y2) in pixels, as the file has them: from 0, or from 1 in VOC."""

    name: str
    corners: tuple[float, float, float, float]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{side:g}' for side in self.corners)})"


@dataclass(frozen=True)
class Record:
    """An image, its boxes and the size the annotation gives it; `problem` says why that cannot be read or believed."""

    image: Path | None
    boxes: tuple[Box, ...] = ()
    problem: str = ""
    size: tuple[int, int] | None = None  # width and height in pixels


def listed(path: Path) -> list[str]:
    """The names in a list file, one a line, all of which stay in the folder that they are looked for in.

    Raises:
        FileNotFoundError: No such list; names the nearest.
        ValueError: It is no UTF-8, or a name leads out of the folder.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of images {path}; {nearest_file(path)}")
    names = decoded(path.read_bytes(), path).split()
    for name in names:
        try:
            inside(path.parent, name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return names


def from_xml(pairs: Iterable[tuple[Path, Path]], folders: bool = False) -> Iterator[Record]:
    """VOC's XML.

    Args:
        pairs: Annotation and image.
        folders: The image lies below its folder in the one that the XML's `<folder>` names, as in WIDER FACE.
    """
    for xml, image in pairs:
        try:
            root = sound_xml.parse(plain_file(xml).read_bytes(), xml.name)
            if folders:
                image = inside(image.parent, f"{root.findtext('folder') or '.'}/{image.name}")
            boxes = tuple(_xml_box(node) for node in root.iter("object"))
            yield Record(image, boxes, size=_xml_size(root))
        except (OSError, ValueError) as error:
            # without XML, the folder is unknown
            yield Record(None if folders else image, problem=f"{xml.name}: {error}")


def _xml_size(root: ET.Element) -> tuple[int, int] | None:
    texts = [root.findtext(f"size/{side}") for side in ("width", "height")]
    if None in texts:
        return None  # optional: MMDetection looks at the image then
    try:
        width, height = (int(text or "") for text in texts)
    except ValueError:
        raise ValueError(f"size {texts[0]} x {texts[1]}, expected whole numbers") from None
    return width, height


def _xml_box(node: ET.Element) -> Box:
    texts = {side: node.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")}
    absent = [side for side, text in texts.items() if text is None]
    if absent:
        raise ValueError(f"an object has no bndbox/{absent[0]}")
    x1, y1, x2, y2 = (_number(text) for text in texts.values())
    return Box(node.findtext("name", ""), (x1, y1, x2, y2))


def from_coco(path: Path, images: Path) -> Iterator[Record]:
    """COCO's json. An annotation of an unknown category has the name "category N"; one of no image is a problem.

    Raises:
        FileNotFoundError: No such file; names the nearest.
        ValueError: It is no json, or lacks what makes it COCO's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotations {path}; {nearest_file(path)}")
    records, problems = [], []
    try:
        content = json.loads(decoded(path.read_bytes(), path.name))
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        boxes: dict[object, list[Box]] = {image["id"]: [] for image in content["images"]}
        if len(boxes) < len(content["images"]):
            problems.append(f"{len(content['images']) - len(boxes)} images have the id of another one")
        for one in content["annotations"]:
            x, y, w, h = map(_number, one["bbox"])
            name = names.get(one["category_id"], f"category {one['category_id']}")
            if one["image_id"] in boxes:
                boxes[one["image_id"]].append(Box(name, (x, y, x + w, y + h)))
            else:
                problems.append(f"annotation {one.get('id')}: no image {one['image_id']}")
        for image in content["images"]:
            try:
                file = inside(images, image["file_name"])
            except ValueError as error:
                problems.append(f"image {image['id']}: file_name {error}")
                continue
            records.append(Record(file, tuple(boxes[image["id"]]), size=_coco_size(image)))
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is not COCO's json: {type(error).__name__} {error!s:.200}") from error
    yield from records
    yield from (Record(None, problem=problem) for problem in problems)


def _coco_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    return (int(image["width"]), int(image["height"])) if {"width", "height"} <= set(image) else None


def _number(text: Any) -> float:
    """A number as files have it; one too large to be any is refused as one that is none."""
    try:
        return float(text)
    except OverflowError as error:
        raise ValueError(f"a number of {len(str(text))} digits") from error


def from_kitti(ids: Iterable[str], labels: Path | None, images: Path) -> Iterator[Record]:
    """KITTI's label files, None where there are none; the image has any of the suffixes in `IMAGES`.

    `kitti_labels.read_labels` would not do: it refuses a file at the first unknown type or reversed box.
    """
    for name in ids:
        found = [file for suffix in IMAGES if (file := images / f"{name}{suffix}").exists()]
        image = found[0] if found else images / f"{name}.png"
        try:
            note = f"{name}.txt"
            text = decoded(plain_file(labels / note).read_bytes(), note) if labels else ""
            rows = [line.split() for line in text.splitlines()]
            yield Record(image, tuple(_kitti_box(row) for row in rows if row))
        except (OSError, ValueError) as error:
            yield Record(image, problem=f"{name}.txt: {error}")


def _kitti_box(row: list[str]) -> Box:
    if len(row) != COLUMNS:
        raise ValueError(f"a line of {len(row)} columns, expected {COLUMNS}")
    x1, y1, x2, y2 = map(float, row[1:][BOX])
    return Box(row[0], (x1, y1, x2, y2))
