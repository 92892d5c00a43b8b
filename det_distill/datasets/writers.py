"""One set of boxes in three annotation formats, and a folder that appears whole or not at all."""

import contextlib
import json
import os
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Item:
    """One object: class name, (x1, y1, x2, y2) in whole pixels, and whether another object hides part of it.

    Pixels are unit squares and box sides lie between them: x2 is one more than the last column inside.
    """

    name: str
    box: tuple[int, int, int, int]
    occluded: bool = False


@dataclass(frozen=True)
class Picture:
    """One image file, its size in pixels and the objects on it."""

    file_name: str
    width: int
    height: int
    items: tuple[Item, ...]

    @property
    def stem(self) -> str:
        return Path(self.file_name).stem


def write_coco(path: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """COCO json; ids of images, annotations and categories start at 1, and area is that of the box."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    category = {name: i for i, name in enumerate(classes, 1)}
    for picture in pictures:
        image_id = len(images) + 1
        images.append(dict(id=image_id, file_name=picture.file_name, width=picture.width, height=picture.height))
        for item in picture.items:
            x1, y1, x2, y2 = item.box
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category[item.name],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=name) for name, i in category.items()]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def write_voc(path: Path, picture: Picture) -> None:
    """VOC XML with 1 added to every coordinate, which is what MMDetection's XMLDataset takes off again.

    A reader that counts VOC's xmax and ymax as the last pixel inside sees boxes one pixel longer to the right and
    bottom; both conventions cannot hold at once. Objects one pixel or more off those borders keep xmax <= width.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = picture.file_name
    size = ET.SubElement(root, "size")
    for key, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    for item in picture.items:
        node = ET.SubElement(root, "object")
        facts = dict(name=item.name, truncated=0, occluded=int(item.occluded), difficult=0)
        for key, fact in facts.items():
            ET.SubElement(node, key).text = str(fact)
        corners = ET.SubElement(node, "bndbox")
        for side, at in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
            ET.SubElement(corners, side).text = str(at + 1)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8")


def write_kitti(path: Path, picture: Picture) -> None:
    """KITTI's 15 columns: type, truncation, occlusion 0 or 1, alpha, box from 0, then seven 3-D values nobody knows."""
    lines = []
    for item in picture.items:
        box = " ".join(f"{v:.2f}" for v in item.box)
        lines.append(f"{item.name} 0.00 {int(item.occluded)} -10 {box} -1 -1 -1 -1000 -1000 -1000 -10\n")
    path.write_text("".join(lines))


def write_picture(folder: Path, picture: Picture, image: NDArray[np.uint8]) -> None:
    """The jpeg of an RGB image (h, w, 3), with its VOC and its KITTI file, where a data set in `folder` keeps them."""
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    _room(folder, "JPEGImages", picture.file_name).write_bytes(jpeg.tobytes())
    write_voc(_room(folder, "Annotations", f"{picture.stem}.xml"), picture)
    write_kitti(_room(folder, "kitti/training/label_2", f"{picture.stem}.txt"), picture)


def write_split(folder: Path, split: str, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """The COCO json of one split, and the list of its pictures for VOC."""
    write_coco(_room(folder, "annotations", f"{split}.json"), pictures, classes)
    _room(folder, "ImageSets/Main", f"{split}.txt").write_text("".join(f"{p.stem}\n" for p in pictures))


def _room(folder: Path, place: str, name: str) -> Path:
    # "Annotations" and "annotations" are one folder on disks that ignore case; names in them do not clash.
    (folder / place).mkdir(parents=True, exist_ok=True)
    return folder / place / name


def already_made(out: Path, settings: Mapping[str, object]) -> bool:
    """True if `out` holds a whole data set made with these settings, False if nothing is there.

    Raises:
        ValueError: If `out` holds anything else.
    """
    if not out.exists():
        return False
    record = out / f"{settings['name']}.json"
    try:
        found = json.loads(record.read_text())
    except FileNotFoundError:
        raise ValueError(f"{out} exists but has no {record.name}; move it away, or --force to replace it") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{record} cannot be read ({error}); move {out} away, or --force to replace it") from None
    if found != dict(settings):
        raise ValueError(f"{out} was made with {found}, wanted {dict(settings)}; name another --out, or use --force")
    return True


@contextlib.contextmanager
def staged(out: Path, settings: Mapping[str, object]) -> Iterator[Path]:
    """Gives an empty folder to fill; it becomes `out`, with its settings, only if the body ends without an error.

    The folder is a hidden sibling of `out`, so that the final rename stays on one disk. What was at `out` is replaced.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        folder = workshop / "new"
        folder.mkdir()
        yield folder
        (folder / f"{settings['name']}.json").write_text(json.dumps(dict(settings)) + "\n")
        if out.exists():
            os.replace(out, workshop / "old")
        os.replace(folder, out)
    finally:
        shutil.rmtree(workshop)
