"""Turns are taken in order, and a ratio is that of times of the same round."""

import pytest

from det_distill.bench import turns
from det_distill.bench.turns import in_turns, milliseconds, ratio


def test_each_has_its_turn_in_each_round_and_the_first_round_is_not_told(monkeypatch: pytest.MonkeyPatch):
    order, clock = [], iter([0, 9, 10, 19, 20, 21, 30, 33, 40, 42, 50, 57])
    monkeypatch.setattr(turns, "perf_counter", lambda: next(clock))
    times = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2, "cpu")
    assert order == ["a", "b"] * 3
    assert times == dict(a=[1, 2], b=[3, 7])


def test_a_ratio_is_the_median_over_rounds():
    assert ratio([3.0, 8.0, 100.0], [1.0, 2.0, 10.0], [1.0, 2.0, 10.0]) == 2  # 1.5, 2, 5
    assert milliseconds([0.001, 0.2, 5.0]) == "200"
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])
