"""WIDER FACE's own annotation text as the XML that MMDetection's WIDERFaceDataset reads.

Why not `writers.write_voc`: this reader takes nothing off the coordinates, finds the image by `<folder>`, and needs
`difficult`, which here is WIDER FACE's "invalid": faces too unclear to be counted either way.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

Face = tuple[int, int, int, int, bool]  # x, y, width, height in pixels from 0; invalid?


def read_faces(path: Path) -> Iterator[tuple[str, list[Face]]]:
    """Image ("event/name.jpg") and faces, in the file's order.

    A block is the image, the number of faces and a row each; an image without faces has one row of zeros all the same.
    A row is x, y, w, h, blur, expression, illumination, invalid, occlusion, pose.
    """
    lines = iter(path.read_text().splitlines())
    for image in lines:
        count = int(next(lines))
        rows = [[int(value) for value in next(lines).split()] for _ in range(max(count, 1))]
        yield image, [(x, y, w, h, bool(rest[3])) for x, y, w, h, *rest in rows[:count]]


def write_annotations(text: Path, folder: Path) -> None:
    """`folder/Annotations/NAME.xml` for every image that `text` lists, all of which lie in `folder`."""
    out = folder / "Annotations"
    out.mkdir()
    for image, faces in read_faces(text):
        name = PurePosixPath(image)
        with Image.open(folder / image) as picture:
            width, height = picture.size
        root = ET.Element("annotation")
        ET.SubElement(root, "folder").text = str(name.parent)
        ET.SubElement(root, "filename").text = name.name
        _numbers(ET.SubElement(root, "size"), width=width, height=height, depth=3)
        for x, y, w, h, invalid in faces:
            node = ET.SubElement(root, "object")
            ET.SubElement(node, "name").text = "face"
            _numbers(node, difficult=int(invalid))
            _numbers(ET.SubElement(node, "bndbox"), xmin=x, ymin=y, xmax=x + w, ymax=y + h)
        ET.ElementTree(root).write(out / f"{name.stem}.xml", encoding="utf-8")


def _numbers(node: ET.Element, **values: int) -> None:
    for key, value in values.items():
        ET.SubElement(node, key).text = str(value)
