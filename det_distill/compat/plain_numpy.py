"""Rebuild pickled numpy numbers and arrays without believing the file.

Why: numpy's own `dtype.__setstate__` takes its flags from the pickle. Forged or damaged flags make it treat
the bytes of an array as object pointers: one wrong byte in a checkpoint crashed the interpreter. So the
names that pickles use for numpy's rebuilders are given to the stand-ins here, which accept plain numbers only.
"""

import pickle
from typing import Any

import numpy as np

NUMBERS = frozenset(np.dtype(code).str[1:] for code in "?bhilqBHILQefd")


class Number:
    """Stands for a pickled `numpy.dtype`; of its state only the byte order is read."""

    def __init__(self, code: str, *_flags: Any) -> None:
        if code not in NUMBERS:
            raise pickle.UnpicklingError(f"numpy dtype {code!r} is no plain number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"numpy byte order {state[1]!r} is none")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(np.ndarray):
    """Stands for a pickled `numpy.ndarray`, and pickles as one; starts empty and is filled by its state."""

    def __new__(cls, *_args: Any) -> "Array":
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, number, fortran, data = state
        if not isinstance(number, Number) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("numpy array of something else than plain numbers")
        super().__setstate__((1, shape, number.dtype, bool(fortran), data))  # type: ignore[arg-type]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def scalar(number: Number, data: bytes) -> Any:
    """One numpy number from its bytes."""
    if not isinstance(number, Number) or not isinstance(data, bytes) or len(data) != number.dtype.itemsize:
        raise pickle.UnpicklingError("numpy scalar that is no plain number")
    return np.frombuffer(data, number.dtype)[0]


def no_bytes() -> bytes:
    """Stands for `bytes`, by which protocol 2 writes the data of an empty array; takes no argument."""
    return b""


# numpy 1 and 2 keep the rebuilders under different module names; checkpoints of either load in both.
STAND_INS: dict[str, Any] = {
    "builtins.bytes": no_bytes,
    "numpy.dtype": Number,
    "numpy.ndarray": Array,
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
}
