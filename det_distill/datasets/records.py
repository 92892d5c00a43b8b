"""Annotation files as they are written, for `check`: MMDetection's loaders skip in silence what is to be found here."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from det_distill.compat.checkpoints import nearest_file
from det_distill.datasets.kitti import IMAGES
from det_distill.datasets.kitti_labels import BOX, COLUMNS


@dataclass(frozen=True)
class Box:
    """A class name and (x1, y1, x2, y2) in pixels, as the file has them: from 0, or from 1 in VOC."""

    name: str
    corners: tuple[float, float, float, float]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{side:g}' for side in self.corners)})"


@dataclass(frozen=True)
class Record:
    """An image and its boxes; `problem` says why the annotation cannot be read, or which one has no image at all."""

    image: Path | None
    boxes: tuple[Box, ...] = ()
    problem: str = ""


def listed(path: Path) -> list[str]:
    """The names in a list file, one a line.

    Raises:
        FileNotFoundError: No such list; names the nearest.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of images {path}; {nearest_file(path)}")
    return path.read_text().split()


def from_xml(pairs: Iterable[tuple[Path, Path]], folders: bool = False) -> Iterator[Record]:
    """VOC's XML.

    Args:
        pairs: Annotation and image.
        folders: The image lies below its folder in the one that the XML's `<folder>` names, as in WIDER FACE.
    """
    for xml, image in pairs:
        try:
            root = ET.parse(xml).getroot()
            if folders:
                image = image.parent / (root.findtext("folder") or "") / image.name
            boxes = tuple(_xml_box(node) for node in root.iter("object"))
            yield Record(image, boxes)
        except (OSError, ET.ParseError, ValueError) as error:
            yield Record(
                None if folders else image, problem=f"{xml.name}: {error}"
            )  # without XML, the folder is unknown


def _xml_box(node: ET.Element) -> Box:
    texts = {side: node.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")}
    absent = [side for side, text in texts.items() if text is None]
    if absent:
        raise ValueError(f"an object has no bndbox/{absent[0]}")
    x1, y1, x2, y2 = (float(text or "") for text in texts.values())
    return Box(node.findtext("name", ""), (x1, y1, x2, y2))


def from_coco(path: Path, images: Path) -> Iterator[Record]:
    """COCO's json. An annotation of an unknown category has the name "category N"; one of no image is a problem.

    Raises:
        FileNotFoundError: No such file; names the nearest.
        ValueError: It is no json, or lacks what makes it COCO's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotations {path}; {nearest_file(path)}")
    try:
        content = json.loads(path.read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        boxes: dict[object, list[Box]] = {image["id"]: [] for image in content["images"]}
        files = {image["id"]: images / image["file_name"] for image in content["images"]}
        orphans = []
        for one in content["annotations"]:
            x, y, w, h = map(float, one["bbox"])
            name = names.get(one["category_id"], f"category {one['category_id']}")
            if one["image_id"] in boxes:
                boxes[one["image_id"]].append(Box(name, (x, y, x + w, y + h)))
            else:
                orphans.append(f"annotation {one.get('id')}: no image {one['image_id']}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not COCO's json: {type(error).__name__} {error}") from error
    for key, file in files.items():
        yield Record(file, tuple(boxes[key]))
    for orphan in orphans:
        yield Record(None, problem=orphan)


def from_kitti(ids: Iterable[str], labels: Path | None, images: Path) -> Iterator[Record]:
    """KITTI's label files, None where there are none; the image has any of the suffixes in `IMAGES`.

    `kitti_labels.read_labels` would not do: it refuses a file at the first unknown type or reversed box.
    """
    for name in ids:
        found = [file for suffix in IMAGES if (file := images / f"{name}{suffix}").exists()]
        image = found[0] if found else images / f"{name}.png"
        try:
            text = (labels / f"{name}.txt").read_text() if labels else ""
            rows = [line.split() for line in text.splitlines()]
            yield Record(image, tuple(_kitti_box(row) for row in rows if row))
        except (OSError, ValueError) as error:
            yield Record(image, problem=f"{name}.txt: {error}")


def _kitti_box(row: list[str]) -> Box:
    if len(row) != COLUMNS:
        raise ValueError(f"a line of {len(row)} columns, expected {COLUMNS}")
    x1, y1, x2, y2 = map(float, row[1:][BOX])
    return Box(row[0], (x1, y1, x2, y2))
