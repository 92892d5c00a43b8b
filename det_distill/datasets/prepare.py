"""Data sets as MMDetection's stock configs expect them: what is there is counted, what is missing is fetched.

Every folder appears whole or not at all: archives are checked, unpacked into a hidden folder, counted, and moved.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rich.progress import track

from det_distill.datasets import digits, sources, widerface
from det_distill.datasets.fetch import fetch, unpacked
from det_distill.datasets.kitti_split import chen_split
from det_distill.datasets.sources import Part

ROOTS = dict(
    digits="data/digits", voc="data/VOCdevkit", coco="data/coco", kitti="data/kitti", widerface="data/WIDERFace"
)
Finish = Callable[[Path, Path], None]


def voc(root: Path, parts: Sequence[Part] = sources.VOC) -> bool:
    """VOC2007 (trainval and test) and VOC2012 (trainval). True if anything was fetched."""
    return _parts(root, parts)


def coco(root: Path, parts: Sequence[Part] = sources.COCO) -> bool:
    """COCO 2017: train2017, val2017 and annotations. True if anything was fetched."""
    return _parts(root, parts)


def kitti(root: Path, parts: Sequence[Part] = sources.KITTI) -> bool:
    """KITTI's left images and labels, and ImageSets/{train,val}.txt by Chen et al. unless you have put others there."""
    fetched = _parts(root, parts)
    for split, ids in chen_split().items():
        _write_list(root / "ImageSets" / f"{split}.txt", ids)
    return fetched


def faces(root: Path, parts: Sequence[Part] = sources.WIDERFACE) -> bool:
    """WIDER_train and WIDER_val, each with XML made from the official text, and the lists of their images."""
    fetched = _parts(root, parts, _face_annotations)
    for split in ("train", "val"):
        _write_list(root / f"{split}.txt", sorted(xml.stem for xml in root.glob(f"WIDER_{split}/Annotations/*.xml")))
    return fetched


PREPARE = dict(voc=voc, coco=coco, kitti=kitti, widerface=faces)


def prepare(name: str, root: Path, seed: int, train: int, val: int, force: bool) -> str:
    """Makes or fetches a data set.

    Args:
        name: One of `ROOTS`.
        root: The data set's own folder, `data_root` of the stock config.
        seed: Of the digits, as the rest; the other data sets are what they are.
        train: Number of training images.
        val: Number of validation images.
        force: Replace what is at `root`.

    Returns:
        What was done, in one line.

    Raises:
        ConnectionError: An address cannot be reached; says where to put the file instead.
        ValueError: `root` holds something else, or what came is not what was expected.
    """
    if name == "digits":
        bar = functools.partial(track, description=str(root))
        made = digits.prepare(root, seed, train, val, force, bar)
        return f"made {root}" if made else f"{root} is there already, made with the same settings"
    if force:
        raise ValueError(f"--force replaces digits only, which are made in seconds; move {root} away yourself")
    if PREPARE[name](root):
        return f"made {root}; {root / 'downloads'} is no longer needed"
    return f"{root} is there already, and whole"


def _parts(root: Path, parts: Sequence[Part], finish: Finish | None = None) -> bool:
    """Fetches the parts that are not there; `finish(unpacked folder, new root)` completes them before they appear."""
    missing = [part for part in parts if not _there(root, part)]
    for part in missing:
        archives = [fetch(archive, root / "downloads") for archive in part.archives]
        with unpacked(archives, root) as folder:
            new = folder / ".new"
            for inside, place in part.moves.items():
                if not (folder / inside).is_dir():
                    raise ValueError(f"{', '.join(map(str, archives))}: no folder {inside} in what was unpacked")
                _move(folder / inside, new / place)
            if finish:
                finish(folder, new)
            _count(new, {**part.counts, **part.fresh}, f"{', '.join(map(str, archives))}, once unpacked,")
            for place in part.moves.values():
                if not (root / place).exists():
                    _move(new / place, root / place)
    return bool(missing)


def _there(root: Path, part: Part) -> bool:
    """True if the part is whole, False if nothing of it is there; anything between is the user's to move away."""
    needed = [place for place in part.moves.values() if any(pattern.startswith(f"{place}/") for pattern in part.counts)]
    found = [str(root / place) for place in needed if (root / place).exists()]
    if found:
        _count(root, part.counts, f"{root} (move {', '.join(found)} away to have it fetched anew)")
    return bool(found)


def _count(root: Path, counts: Mapping[str, int], what: str) -> None:
    found = {pattern: sum(1 for _ in root.glob(pattern)) for pattern in counts}
    wrong = [f"{found[pattern]} of {count} {pattern}" for pattern, count in counts.items() if found[pattern] != count]
    if wrong:
        raise ValueError(f"{what} holds {', '.join(wrong)}")


def _move(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, place)


def _face_annotations(folder: Path, new: Path) -> None:
    for images in new.glob("WIDER_*"):
        text = images.name.replace("WIDER", "wider_face")
        widerface.write_annotations(folder / "wider_face_split" / f"{text}_bbx_gt.txt", images)


def _write_list(path: Path, names: Iterable[str]) -> None:
    """One name a line, unless the file is there; it appears whole."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text("".join(f"{name}\n" for name in names))
    os.replace(part, path)
