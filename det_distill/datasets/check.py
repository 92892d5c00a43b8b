"""What is wrong with a data set: images that cannot be read, boxes that cannot be right, things that are there twice.

Why files are read raw: MMDetection's loaders skip unknown classes in silence, and images only as they are trained on.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from det_distill.datasets.inside import plain_file, printable
from det_distill.datasets.pictures import decoded_size
from det_distill.datasets.records import Box
from det_distill.datasets.splits import Split, configured, named

FAULTS = (
    "missing image",
    "truncated image",
    "unreadable image",
    "missing or unreadable annotation",
    "box outside the image",
    "box of zero area",
    "unknown class",
    "size other than annotated",
    "duplicate image",
    "duplicate box",
)
SLACK = 0.5  # px that a box may stick out: files are rounded, and count pixels from 0 or from 1
NAMED = 5  # culprits in the table, a fault
LONG = 300  # characters told of each


@dataclass
class Report:
    """Faults by name, each a list of culprits; `empty` are images without boxes, which is no fault."""

    images: int = 0
    boxes: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {fault: [] for fault in FAULTS})
    empty: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(self.faults.values())

    def table(self) -> Table:
        table = Table("fault", "count", f"the first {NAMED}", title=f"{self.images} images, {self.boxes} boxes")
        for fault, culprits in [*self.faults.items(), ("(no fault: no boxes)", self.empty)]:
            table.add_row(fault, str(len(culprits)), Text("\n".join(printable(one[:LONG]) for one in culprits[:NAMED])))
        return table


def check(splits: Iterable[Split]) -> Report:
    """Looks at every byte of every image, and at every box, of splits that belong together.

    An image is a duplicate if another file, of any split, has the same bytes, or its own split lists it twice.
    """
    report = Report()
    first: dict[str, Path] = {}  # digest -> the first image that has it
    for split in splits:
        records = list(split.records)
        report.faults["missing or unreadable annotation"] += [record.problem for record in records if record.problem]
        images = [(record.image, record) for record in records if record.image]
        listed: set[Path] = set()
        with ThreadPoolExecutor() as pool:
            looks = pool.map(_look, [image for image, _ in images])
            for (image, record), (fault, digest, size) in track(zip(images, looks, strict=True), total=len(images)):
                where = _short(image)
                if fault:
                    report.faults[fault].append(where)
                if digest and (first.setdefault(digest, image) != image or image in listed):
                    report.faults["duplicate image"].append(f"{where} = {_short(first[digest])}")
                if size and record.size not in (None, size, size[::-1]):  # some annotate before a camera's turn
                    told, found = ("x".join(map(str, sides)) for sides in (record.size, size))
                    report.faults["size other than annotated"].append(f"{where}: {told}, found {found}")
                listed.add(image)
                for kind, what in _box_faults(record.boxes, size, split.classes):
                    report.faults[kind].append(f"{where}: {what}")
                if not record.boxes and not record.problem:
                    report.empty.append(where)
                report.boxes += len(record.boxes)
        report.images += len(images)
    return report


def report(name: str, root: Path, config: Path | None) -> bool:
    """Prints the table of a data set by name, or of those a config trains and tests on. True if nothing is wrong."""
    found = check(configured(config) if config else named(name, root))
    Console().print(found.table())
    return found.clean


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _look(path: Path) -> tuple[str, str, tuple[int, int] | None]:
    """Fault or "", digest of the bytes or "", and (width, height) or None where no picture comes of it."""
    try:
        content = plain_file(path).read_bytes()
    except (OSError, ValueError) as error:
        return "missing image" if isinstance(error, FileNotFoundError) else "unreadable image", "", None
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    try:
        return "", digest, decoded_size(content)
    except ValueError as error:
        return "truncated image" if "truncated" in str(error) else "unreadable image", digest, None


def _box_faults(
    boxes: tuple[Box, ...], size: tuple[int, int] | None, classes: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Fault and culprit, in file coordinates."""
    for box in boxes:
        x1, y1, x2, y2 = box.corners
        if box.name not in classes:
            yield "unknown class", str(box)
        if not (x2 > x1 and y2 > y1):
            yield "box of zero area", str(box)
        if size and not (min(x1, y1) >= -SLACK and x2 <= size[0] + SLACK and y2 <= size[1] + SLACK):
            yield "box outside the image", f"{box} in {size[0]}x{size[1]}"
    for box, count in Counter(boxes).items():
        if count > 1:
            yield "duplicate box", f"{box}, {count} times"
