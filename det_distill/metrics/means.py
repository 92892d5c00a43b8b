"""Means over classes of which some have no object to find."""

from collections.abc import Iterable

import numpy as np


def known_mean(values: Iterable[float]) -> float:
    """Mean of what is not NaN; NaN if all is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
