"""WIDER FACE's own annotation text as the XML that MMDetection's WIDERFaceDataset reads.

Why not `writers.write_voc`: this reader takes nothing off the coordinates, finds the image by `<folder>`, and needs
`difficult`, which here is WIDER FACE's "invalid": faces too unclear to be counted either way.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from det_distill.datasets.inside import inside, plain_file
from det_distill.datasets.pictures import size_of
from det_distill.datasets.plain_text import decoded

Face = tuple[int, int, int, int, bool]  # x, y, width, height in pixels from 0; invalid?


def read_faces(path: Path) -> Iterator[tuple[str, list[Face]]]:
    """Image ("event/name.jpg") and faces, in the file's order.

    A block is the image, the number of faces and a row each; an image without faces has one row of zeros all the same.
    A row is x, y, w, h, blur, expression, illumination, invalid, occlusion, pose.

    Raises:
        ValueError: The file ends within a block, or a row is none; says the line.
    """
    rows = decoded(path.read_bytes(), path).splitlines()
    at = 0
    while at < len(rows):
        image, number, first = rows[at], at + 2, at + 2
        try:
            count = int(rows[at + 1])
            at = first + max(count, 1)
            faces = []
            for number in range(first + 1, first + count + 1):
                x, y, w, h, _blur, _expression, _illumination, invalid, *_rest = map(int, rows[number - 1].split())
                faces.append((x, y, w, h, bool(invalid)))
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{path}, line {number}: {error!s:.200}; expected a number of faces, or ten numbers of one"
            ) from error
        yield image, faces


def write_annotations(text: Path, folder: Path) -> None:
    """`folder/Annotations/NAME.xml` for every image that `text` lists, all of which lie in `folder`.

    Raises:
        ValueError: `text` is broken, or names what is not there, is no image or lies elsewhere.
    """
    out = folder / "Annotations"
    out.mkdir()
    for image, faces in read_faces(text):
        name = PurePosixPath(image)
        try:
            width, height = size_of(plain_file(inside(folder, image)))
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"{text}: {error}") from error
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
