"""Real handwritten digits strewn over clutter: a detection data set made in seconds, with nothing to download.

The glyphs are scikit-learn's bundled `load_digits`: 1797 real digits, 8x8 grey, which are the test part of UCI
"Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998, CC BY 4.0), written by 13 people. Scenes are
160x160 RGB with 1 to 6 of them, 20 to 64 px tall, tilted by up to 25 degrees, darker or lighter than what lies below.

Why these glyphs for train and those for val: nobody ships the writer of a glyph. But the labels repeat one sequence,
the text of the form people copied, from which 14 forms of about 128 glyphs can be told apart, one after the other. We
take a form to be one person's. Train has the first 9 forms, val the last 3, and the 2 between are unused, in case
someone filled two. That no val writer is in train is therefore very likely, but not known.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from det_distill.datasets.digit_scenes import CLASSES, SIDE, Glyphs, compose
from det_distill.datasets.writers import Picture, already_made, staged, write_picture, write_split

VERSION = 1  # to be raised whenever the same seed would give other files
GLYPHS = {"train": range(0, 1157), "val": range(1415, 1797)}


def glyphs_of(split: str) -> Glyphs:
    """The glyphs of one split, "train" or "val", by label."""
    digits = load_digits()
    index = np.array(GLYPHS[split])
    images, labels = digits.images[index].astype(np.float32) / 16, digits.target[index]
    return {label: images[labels == label] for label in range(len(CLASSES))}


def prepare(
    out: Path,
    seed: int = 0,
    train: int = 800,
    val: int = 200,
    force: bool = False,
    track: Callable[[range], Iterable[int]] = iter,
) -> bool:
    """Makes the folder `out`; the same arguments give the same files, byte for byte.

    Args:
        out: Folder to make; it appears only when it is whole.
        seed: Scene i of a split depends on seed, split and i alone, so that a larger set contains the smaller.
        train: Number of training scenes, numbered from 0.
        val: Number of validation scenes, numbered after them.
        force: Replace what is at `out`.
        track: Wraps the range of scenes, to show progress.

    Returns:
        False if `out` was there already, with these settings.

    Raises:
        ValueError: If a number is too small, or `out` holds something else.
    """
    for key, value, least in (("seed", seed, 0), ("train", train, 1), ("val", val, 1)):
        if value < least:
            raise ValueError(f"{key} is {value}, expected at least {least}")
    settings = dict(name="digits", version=VERSION, seed=seed, train=train, val=val)
    if not force and already_made(out, settings):
        return False
    with staged(out, settings) as folder:
        glyphs = {split: glyphs_of(split) for split in GLYPHS}
        pictures: dict[str, list[Picture]] = {split: [] for split in GLYPHS}
        for i in track(range(train + val)):
            split, number = ("train", i) if i < train else ("val", i - train)
            image, items = compose(np.random.default_rng([seed, split == "val", number]), glyphs[split])
            picture = Picture(f"{i:06}.jpg", SIDE, SIDE, tuple(items))
            write_picture(folder, picture, image)
            pictures[split].append(picture)
        for split, of_split in pictures.items():
            write_split(folder, split, of_split, CLASSES)
    return True
