"""Which layer of a teacher's neck a student's is, where the two count their levels from different ones on.

A pyramid for RetinaNet begins at stride 8, one for Faster R-CNN at 4: the first lateral convolution of the one works on
the map that the second of the other works on, and both are named `neck.lateral_convs`.
"""

from collections import defaultdict
from collections.abc import Mapping

Cells = tuple[int, ...]  # H, W of the map that a layer gives, of images of one size


def twins(student: Mapping[str, Cells], teacher: Mapping[str, Cells]) -> dict[str, str | None]:
    """The teacher's layer of as many cells, where the one of the same name has others; None where there is none.

    Levels are what the first number in a name counts. Names of which no level of the teacher has as many cells as any
    of the student's stay as they are, as between nets of other strides.

    Args:
        student: By dotted path, the cells of each layer.
        teacher: The same of its teacher.

    Example:
        >>> twins({"neck.a.0": (8, 8), "neck.a.1": (4, 4)}, {"neck.a.0": (16, 16), "neck.a.1": (8, 8)})
        {'neck.a.0': 'neck.a.1', 'neck.a.1': None}
    """
    own, its = _by_list(student), _by_list(teacher)
    found: dict[str, str | None] = {}
    for name, levels in own.items():
        named = its.get(name, {})
        others = {cells: path for path, cells in named.items()}
        levelled = len(others) == len(named)  # else the number counts something else
        same = all(teacher[path] == cells for path, cells in levels.items() if path in teacher)
        if levelled and not same and {*levels.values()} & {*others}:
            found |= {path: others.get(cells) for path, cells in levels.items()}
    return found


def _by_list(layers: Mapping[str, Cells]) -> dict[str, dict[str, Cells]]:
    """Layers of the neck by their name without its first number."""
    found: dict[str, dict[str, Cells]] = defaultdict(dict)
    for path, cells in layers.items():
        parts = path.split(".")
        number = next((index for index, part in enumerate(parts) if part.isdigit()), None)
        if parts[0] == "neck" and number is not None:
            found[".".join((*parts[:number], "*", *parts[number + 1 :]))][path] = cells
    return found
