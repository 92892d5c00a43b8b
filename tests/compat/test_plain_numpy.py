"""The stand-ins for numpy's rebuilders give what numpy gives, from plain numbers alone."""

import pickle
import re
from typing import Any

import numpy as np
import pytest

from det_distill.compat.plain_numpy import Array, Number, scalar


def number(code: str = "f8", order: str = "<") -> Number:
    made = Number(code, False, True)
    made.__setstate__((3, order, None, None, None, -1, -1, 0))
    return made


@pytest.mark.parametrize("order", ["<", ">", "=", "|"])
@pytest.mark.parametrize("code", ["b1", "i2", "f4", "f8"])
def test_a_number_has_the_byte_order_of_its_state(code: str, order: str) -> None:
    assert number(code, order).dtype == np.dtype(code).newbyteorder(order)


@pytest.mark.parametrize("code", ["c16", "O8", "V4", "U3", "M8", "f3"])
def test_a_code_of_no_plain_number_is_refused_and_named(code: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match=f"^numpy dtype '{code}' is no plain number$"):
        Number(code)


@pytest.mark.parametrize("order", ["!", "", "<<", None, 0])
def test_an_order_that_is_none_is_refused_and_named(order: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match=f"^numpy byte order {re.escape(repr(order))} is none$"):
        number(order=order)


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_array_is_filled_by_its_state_as_numpys_own(order: str, fortran: bool) -> None:
    numbers = np.arange(6, dtype=f"{order}f8").reshape(2, 3)
    found = Array()
    found.__setstate__((1, (2, 3), number(order=order), fortran, numbers.tobytes("F" if fortran else "C")))
    assert found.dtype == np.dtype("f8")  # numpy's own turns the bytes round while it fills
    assert found.tolist() == numbers.tolist()
    assert found.flags.f_contiguous == fortran


@pytest.mark.parametrize(("kind", "data"), [(np.dtype("f8"), bytes(8)), (number(), [0.0]), (number(), "a" * 8)])
def test_an_array_and_a_scalar_of_anything_else_are_refused(kind: Any, data: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"^numpy array of something else than plain numbers$"):
        Array().__setstate__((1, (1,), kind, False, data))
    with pytest.raises(pickle.UnpicklingError, match=r"^numpy scalar that is no plain number$"):
        scalar(kind, data)


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_scalar_takes_just_its_bytes(size: int) -> None:
    assert scalar(number(order=">"), np.array(2.5, ">f8").tobytes()) == 2.5
    with pytest.raises(pickle.UnpicklingError, match=r"^numpy scalar that is no plain number$"):
        scalar(number(), bytes(size))
