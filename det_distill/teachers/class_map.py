"""Which of its classes a teacher shares with the student, where the two know others."""

from collections.abc import Sequence
from typing import Any


def pairs_of(found: Any) -> tuple[tuple[int, int], ...]:
    """The pairs of a config's `class_map`: the teacher's class, and the student's.

    Raises:
        ValueError: It holds no pairs.
    """
    try:
        pairs = tuple((int(its), int(own)) for its, own in found)
    except (TypeError, ValueError):
        pairs = ()
    if not pairs:
        raise ValueError(
            f"teacher.class_map={found!r}; pairs of the teacher's class and the student's, as [(0, 0), (2, 1)], are "
            "expected"
        )
    return pairs


def known_once(pairs: Sequence[tuple[int, int]], its: int | None, own: int | None) -> None:
    """Whether each class is one of so many that the teacher and the student know, and is named once.

    Raises:
        ValueError: One is not.
    """
    for whose, side, known in (("teacher's", 0, its), ("student's", 1, own)):
        classes = [pair[side] for pair in pairs]
        if any(not 0 <= index < (known or 0) or classes.count(index) > 1 for index in classes):
            raise ValueError(
                f"teacher.class_map names the {whose} classes {classes}; each at most once, of 0 to "
                f"{(known or 0) - 1}, is expected"
            )
