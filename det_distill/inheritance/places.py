"""Which of a teacher's channels a student has, layer by layer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from det_distill.inheritance.channels import Channels


class Counterparts:
    """Of each channel of a student one of its teacher: of those that the same layers write, the first ones.

    So it has the first of each part where maps lie side by side.

    Args:
        student: The student's.
        teacher: Its teacher's.
    """

    def __init__(self, student: Channels, teacher: Channels) -> None:
        self.student, self.teacher = student, teacher
        self.numbers = torch.full_like(student.kinds, -1)
        for path in student.written:
            if path not in teacher.written:
                continue
            own, its = (_by_kind(one.written[path], one.kinds) for one in (student, teacher))
            if len(own) == len(its):
                for some, others in zip(own, its, strict=True):
                    count = min(len(some), len(others))
                    self.numbers[some[:count]] = others[:count]

    def outputs(self, path: str) -> Tensor | None:
        """(O,) which of a teacher's layer's outputs are those of the student's; None where it has not all of them."""
        own, its = self.student.written.get(path), self.teacher.written.get(path)
        return None if own is None or its is None else places(self.numbers[own], its)

    def rows(self, path: str, shape: Sequence[int], whole: Sequence[int], axis: int = 0) -> Tensor | None:
        """Which places along an axis of a teacher's weight are those of the student's.

        The first ones where nobody knows whose channels they are, as of a layer that does not run.

        Args:
            path: Of the layer.
            shape: Of the student's weight.
            whole: Of the teacher's.
            axis: 0 for outputs, 1 for inputs.

        Returns:
            (shape[axis],) numbers; None where the teacher has not all of them.
        """
        own, its = (dict(one.along(path, size)) for one, size in ((self.student, shape), (self.teacher, whole)))
        if axis in own and axis in its:
            return places(self.numbers[own[axis]], its[axis])
        return torch.arange(shape[axis]) if shape[axis] <= whole[axis] else None

    def part(self, path: str, whole: Tensor, shape: Sequence[int]) -> Tensor | None:
        """A student's part of one of the teacher's weights; None where that has not all of it, or another kernel.

        Args:
            path: Of the layer.
            whole: The teacher's weight.
            shape: Of the student's.
        """
        if whole.dim() != len(shape) or whole.shape[2:] != torch.Size(shape[2:]):
            return None
        found = whole
        for axis in range(min(2, len(shape))):
            rows = self.rows(path, shape, whole.shape, axis)
            if rows is None:
                return None
            found = found.index_select(axis, rows.to(whole.device))
        return found


def places(wanted: Tensor, among: Tensor) -> Tensor | None:
    """Where some numbers stand; the second of a number is the second of it there.

    Returns:
        Indices like `wanted`; None where a number is not among them, or not as often.

    Example:
        >>> places(torch.tensor([7, 5, 7]), torch.tensor([5, 7, 9, 7]))
        tensor([1, 0, 3])
        >>> places(torch.tensor([7, 5]), torch.tensor([5, 7, 9, 7])), places(torch.tensor([-1]), torch.tensor([5]))
        (None, None)
    """
    if not len(wanted):
        return wanted
    order = among.argsort(stable=True)
    begin, end = (torch.searchsorted(among[order], wanted, right=right) for right in (False, True))
    mine = wanted.argsort(stable=True)
    kept = wanted[mine]
    first, last = (torch.searchsorted(kept, kept, right=right) for right in (False, True))
    if not (end - begin)[mine].equal(last - first):
        return None
    nth = torch.empty_like(wanted)
    nth[mine] = torch.arange(len(mine)) - first
    return order[begin + nth]


def _by_kind(channels: Tensor, kinds: Tensor) -> list[Tensor]:
    """Channels by kind, in the order in which kinds first appear."""
    return [channels[kinds[channels] == kind] for kind in dict.fromkeys(kinds[channels].tolist())]
