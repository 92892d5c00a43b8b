"""What a view recorded of one step."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from det_distill.views.taps import Recorder


class Sight(Mapping[str, Any]):
    """A mapping from names to tensors or tuples of maps, filled while its `with` lasts.

    Args:
        side: "student" or "teacher", for messages.
        names: What to record.
        attach: Makes a recorder watch a name.
        stable: Names whose last call is the value; of any other module, all calls are.
    """

    def __init__(
        self, side: str, names: Iterable[str], attach: Callable[[Recorder, str], None], stable: Container[str]
    ) -> None:
        self._side, self._attach, self._stable = side, attach, stable
        self._names, self._recorder = tuple(dict.fromkeys(names)), Recorder()

    def __enter__(self) -> "Sight":
        try:
            for name in self._names:
                self._attach(self._recorder, name)
        except ValueError:  # no `with` was entered, so nobody else detaches what was attached so far
            self._recorder.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._recorder.__exit__(*error)

    def __getitem__(self, name: str) -> Any:
        calls = self._recorder.calls(name)
        if not calls:
            raise KeyError(f"the {self._side}'s '{name}' was not recorded in this step")
        if name in self._stable:
            return calls[-1]
        flat = [part for call in calls for part in (call if isinstance(call, tuple) else (call,))]
        return tuple(flat)  # a module shared by the levels of a pyramid runs once per level

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
