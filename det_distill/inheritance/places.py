"""Which of a teacher's layers and channels a student has."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from det_distill.inheritance.channels import Channels
from det_distill.inheritance.levels import twins


@dataclass(frozen=True)
class Origin:
    """Where a student's layer comes from.

    Attributes:
        path: The teacher's layer.
        outputs: (O,) which of its outputs are the student's.
    """

    path: str
    outputs: Tensor


class Counterparts:
    """Of each layer of a student one of its teacher, and of each channel: the first ones, and where maps lie side by
    side those of each.

    Args:
        student: The student's.
        teacher: Its teacher's.
    """

    def __init__(self, student: Channels, teacher: Channels) -> None:
        self.student, self.teacher = student, teacher
        self._twins = twins(student.cells, teacher.cells)

    def its(self, path: str) -> str:
        """The teacher's layer, or weight of an attention, that is a student's: mostly that of its name; "" for none."""
        return self._twins.get(path, path) or ""

    def origin(self, path: str) -> Origin | None:
        """Where a layer comes from; None where the teacher's has not all of its outputs."""
        its = self.its(path)
        if path not in self.student.written or its not in self.teacher.written:
            return None
        own, whole = self.student.written[path], self.teacher.written[its]
        found = _of_each_third(len(own), len(whole)) if _packed(path) else self._matched(own, whole)
        return None if found is None else Origin(its, found)

    def rows(self, path: str, shape: Sequence[int], whole: Sequence[int], axis: int) -> Tensor | None:
        """Which places along an axis of a teacher's weight are those of the student's.

        The first ones where nobody knows whose channels they are, as of a layer that does not run; of an attention's
        queries, keys and values, which lie in one weight, the first of each, so whole heads where these are as large.

        Args:
            path: Of the layer, or of a weight of an attention.
            shape: Of the student's weight.
            whole: Of the teacher's.
            axis: 0 for outputs, 1 for inputs.

        Returns:
            (shape[axis],) numbers; None where the teacher has not all of them.
        """
        if axis == 0 and _packed(path):
            return _of_each_third(shape[0], whole[0])
        own, its = dict(self.student.along(path, shape)), dict(self.teacher.along(self.its(path), whole))
        if axis in own and axis in its:
            return self._matched(own[axis], its[axis])
        return torch.arange(shape[axis]) if shape[axis] <= whole[axis] else None

    def part(self, path: str, whole: Tensor, shape: Sequence[int]) -> Tensor | None:
        """A student's part of one of the teacher's weights; None where that has not all of it, or another kernel.

        Args:
            path: Of the layer, or of a weight of an attention.
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

    def _matched(self, own: Tensor, its: Tensor) -> Tensor | None:
        """Where in a row of the teacher's channels those of the student's row are: of each part the first."""
        mine, theirs = _parts(own, self.student.kinds), _parts(its, self.teacher.kinds)
        if len(mine) != len(theirs):
            return None
        found = torch.empty_like(own)
        for some, others in zip(mine, theirs, strict=True):
            if len(some) > len(others):
                return None
            found[some] = others[: len(some)]
        return found


def _packed(path: str) -> bool:
    """Whether a layer, or a weight, holds queries, keys and values: Swin's, or torch's attention."""
    return path.rpartition(".")[2] in ("qkv", "in_proj_weight", "in_proj_bias")


def _of_each_third(count: int, whole: int) -> Tensor | None:
    """The first places of each third.

    Example:
        >>> _of_each_third(6, 12)
        tensor([0, 1, 4, 5, 8, 9])
    """
    own, its = count // 3, whole // 3
    return torch.cat([third * its + torch.arange(own) for third in range(3)]) if own <= its else None


def _parts(channels: Tensor, kinds: Tensor) -> list[Tensor]:
    """The places of each map in a row of channels: of one kind, and of a channel that is there twice one of them."""
    order = channels.argsort(stable=True)
    first = torch.searchsorted(channels[order], channels[order])
    nth = torch.empty_like(order)
    nth[order] = torch.arange(len(order)) - first
    found: dict[tuple[int, int], list[int]] = {}
    for place, key in enumerate(zip(kinds[channels].tolist(), nth.tolist(), strict=True)):
        found.setdefault(key, []).append(place)
    return [torch.tensor(one) for one in found.values()]
