"""Names out of annotation files, which strangers write, stay inside the folder that the user named.

Why links are followed all the same: a name travels with an annotation file, a link is made on the user's own disk, as
many do to keep one copy of the images (and `fetch` refuses archives that hold any). What a link leads to must be a
plain file: a pipe or a device would be read for ever.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

DRIVE = re.compile(r"[A-Za-z]:[\\/]")
LONGEST = 255  # bytes of one name on any common file system


def inside(folder: Path, name: object) -> Path:
    """`folder / name`, where `name` leads to a place below `folder`.

    Raises:
        ValueError: It is no text, is empty, is absolute on some system, climbs by "..", is an address, or cannot name
            a file.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{shown(name)} is no file name")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "://" in name or DRIVE.match(name):
        raise ValueError(f"{shown(name)} leads out of {folder}")
    try:
        longest = max(len(part.encode()) for part in path.parts)
    except (UnicodeEncodeError, ValueError):  # half a character; nothing but "."
        longest = LONGEST + 1
    if "\0" in name or longest > LONGEST:
        raise ValueError(f"{shown(name)} is no file name")
    return folder / name


def plain_file(path: Path) -> Path:
    """`path`, once it is known to be a file or a link to one.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: A folder, a pipe or a device, or nothing of such a name can be.
    """
    try:
        if path.is_file():
            return path
        there = path.exists()
    except OSError as error:  # a name that is too long, a loop of links
        raise ValueError(f"{shown(path)}: {error.strerror}") from error
    if there:
        raise ValueError(f"{path} is no plain file")
    raise FileNotFoundError(f"no file {path}")


def demand_inside(dataset: Any) -> None:
    """Refuse a built data set of MMDetection's that would read images outside the folders its config names.

    Raises:
        ValueError: Names the first image, and the folder.
    """
    roots = sorted({root for root in (dataset.data_root, *dataset.data_prefix.values()) if isinstance(root, str)})
    for index in range(len(dataset)):
        path = str(dataset.get_data_info(index)["img_path"])
        if not any(_below(root, path) for root in roots):
            raise ValueError(f"{dataset.ann_file}: image {shown(path, 500)} leads out of {' and '.join(roots)}")


def _below(root: str, path: str) -> bool:
    try:
        inside(Path(root), path.removeprefix(root).lstrip("/") if root and path.startswith(root) else path)
    except ValueError:
        return False
    return path.startswith(root)


def shown(name: object, most: int = 80) -> str:
    """At most so many characters of a name in quotes, fit for a message of one line."""
    return f"'{printable(str(name))[:most]}'"


def printable(text: str) -> str:
    """`text` with what no terminal should be sent (line ends, escape sequences, halves of characters) as escapes."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
