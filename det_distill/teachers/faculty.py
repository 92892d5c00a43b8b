"""The teachers of one student: one as a rule, or several by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from det_distill.refusals import blamed
from det_distill.teachers.teacher import Teacher
from det_distill.terms.base import Term
from det_distill.views.base import TRAINING, View


def several(cfg: Mapping[str, Any]) -> bool:
    """Whether a config holds several teachers by name, not the one.

    Example:
        >>> several(dict(config="a.py", checkpoint="a.pth")), several(dict(a=dict(config="a.py"), b=dict()))
        (False, True)
    """
    return bool(cfg) and all(isinstance(one, Mapping) for one in cfg.values())


def teachers_of(cfg: Mapping[str, Any]) -> dict[str, Teacher]:
    """The teachers of a config by name: several of `dict(a=dict(config=...), b=...)`, or the one, under "teacher".

    Raises:
        FileNotFoundError: A config or checkpoint is not there.
        ValueError: A key is missing or unknown, or weights do not fit; names the teacher.
    """
    if not isinstance(cfg, Mapping):
        raise ValueError(f"teacher={cfg!r:.80}; dict(config=..., checkpoint=...), or such dicts by name, are expected")
    if not several(cfg):
        return {"teacher": Teacher.from_config(cfg)}
    teachers = {}
    for name, one in cfg.items():
        with _named(name):
            teachers[str(name)] = Teacher.from_config(one)
    return teachers


@contextmanager
def _named(teacher: str) -> Iterator[None]:
    """As `blamed`; a file that is not there stays a FileNotFoundError."""
    try:
        with blamed(f"teacher.{teacher}"):
            yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"teacher.{teacher}: {error}") from error


Asked = dict[str, list[str]]  # of each teacher the names of what it shall show


class Faculty(Mapping[str, Teacher]):
    """Teachers by name, each fed in its own way, asked for no more than somebody wants to know.

    Args:
        configs: One teacher's config, or several by name.
        student: The student's view.
        preprocessor: The student's.

    Raises:
        FileNotFoundError: A config or checkpoint is not there.
        ValueError: A teacher cannot be loaded, or does not fit the student.
    """

    def __init__(self, configs: Mapping[str, Any], student: View, preprocessor: nn.Module) -> None:
        self._all = teachers_of(configs)
        for name, one in self._all.items():
            with blamed(f"teacher.{name}") if len(self) > 1 else nullcontext():
                one.match(student, preprocessor)

    def __getitem__(self, name: str) -> Teacher:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def first(self) -> Teacher:
        """The only one, as a rule."""
        return next(iter(self._all.values()))

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow `.to()`, `.cuda()`, `.half()` of the Distiller."""
        for one in self._all.values():
            one.apply(fn)

    def asked(self, terms: Iterable[Term]) -> tuple[Asked, Asked]:
        """What some terms ask of each teacher they ask, of the others nothing is computed: of those who can look at
        the images first, and of those who must judge the boxes that the student samples.
        """
        wanted = list(terms)
        asked = {name: taps for name in self if (taps := taps_of(wanted, name))}
        after = {name: taps for name, taps in asked.items() if any(self[name].view.stage(tap) == "roi" for tap in taps)}
        return {name: taps for name, taps in asked.items() if name not in after}, after

    def watch(
        self, inputs: Tensor, samples: Sequence[Any], asked: Asked, rois: Tensor | None = None
    ) -> dict[str, Mapping[str, Any]]:
        """What each teacher that was asked shows of a batch, see `Teacher.watch`."""
        return {name: self[name].watch(inputs, samples, taps, rois) for name, taps in asked.items()}


def taps_of(terms: Iterable[Term], teacher: str) -> list[str]:
    """What some terms ask of a teacher, in order."""
    return shared(sorted({tap for term in terms if teacher in term.teachers for tap in term.taps}))


def shared(taps: Iterable[str]) -> list[str]:
    """The taps that both sides show, in order."""
    return [tap for tap in taps if tap not in TRAINING]
