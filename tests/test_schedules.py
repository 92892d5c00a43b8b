"""Schedules: values worked out by hand at every boundary; the same step always gives the same factor."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TASK_UTILS

import det_distill.plugins  # noqa: F401
from det_distill.schedules import Decay, Ramp, Warmup, Window

BY_HAND = [
    (dict(type="Ramp", start=2, stop=1, begin=10, end=20), {0: 2, 9: 2, 10: 2, 11: 1.9, 15: 1.5, 19: 1.1, 20: 1}),
    (dict(type="Ramp", start=0, stop=4, begin=0, end=1), {0: 0, 1: 4, 10**9: 4}),
    (dict(type="Ramp", start=0.5, stop=0.5, begin=3, end=5), {0: 0.5, 4: 0.5, 9: 0.5}),
    (dict(type="Warmup", end=400), {0: 0, 1: 0.0025, 399: 0.9975, 400: 1, 401: 1}),
    (dict(type="Warmup", begin=2, end=4), {1: 0, 2: 0, 3: 0.5, 4: 1}),
    (dict(type="Decay", gamma=0.5), {0: 1, 1: 0.5, 3: 0.125}),
    (dict(type="Decay", gamma=0.1, interval=3, begin=5), {0: 1, 5: 1, 7: 1, 8: 0.1, 10: 0.1, 11: 0.01}),
    (dict(type="Decay", gamma=0), {0: 1, 1: 0, 2: 0}),
    (dict(type="Decay", gamma=1), {0: 1, 99: 1}),
    (dict(type="Window"), {0: 1, 10**9: 1}),
    (dict(type="Window", begin=400), {0: 0, 399: 0, 400: 1, 10**9: 1}),
    (dict(type="Window", begin=2, end=4), {1: 0, 2: 1, 3: 1, 4: 0}),
]


@pytest.mark.parametrize(("config", "values"), BY_HAND, ids=str)
def test_gives_the_factors_worked_out_by_hand(config: dict, values: dict[int, float]):
    schedule = TASK_UTILS.build(config)
    assert {step: schedule(step, epoch=7) for step in values} == pytest.approx(values)


@pytest.mark.parametrize(("config", "values"), BY_HAND, ids=str)
def test_by_epoch_counts_epochs_and_forgets_steps(config: dict, values: dict[int, float]):
    schedule = TASK_UTILS.build(config | dict(by_epoch=True))
    assert {epoch: schedule(123, epoch) for epoch in values} == pytest.approx(values)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Ramp, dict(start=0, stop=1, begin=5, end=5)),
        (Ramp, dict(start=0, stop=1, begin=6, end=5)),
        (Ramp, dict(start=0, stop=1, begin=-1, end=5)),
        (Warmup, dict(end=0)),
        (Warmup, dict(begin=400, end=300)),
        (Window, dict(begin=4, end=2)),
        (Window, dict(begin=3, end=3)),
    ],
    ids=str,
)
def test_an_end_that_is_not_behind_the_beginning_is_refused(kind: type, wrong: dict):
    with pytest.raises(ValueError, match=rf"begin < end, got begin={wrong.get('begin', 0)}, end={wrong['end']}"):
        kind(**wrong)


@pytest.mark.parametrize("wrong", [dict(gamma=-0.1), dict(gamma=0.5, interval=0), dict(gamma=0.5, interval=-3)])
def test_a_negative_decay_or_interval_is_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"gamma >= 0 and interval >= 1, got gamma="):
        Decay(**wrong)


steps = st.integers(0, 10**6)
levels = st.floats(-10, 10)


@settings(deadline=None)
@given(start=levels, stop=levels, begin=steps, length=st.integers(1, 10**6), now=steps)
def test_a_ramp_stays_between_its_ends_and_moves_one_way(start, stop, begin, length, now):
    ramp = Ramp(start, stop, begin, begin + length)
    here, later = ramp(now, 0), ramp(now + 1, 0)
    slack = 1e-12 * max(1, abs(start), abs(stop))
    assert min(start, stop) - slack <= here <= max(start, stop) + slack
    assert (later - here) * (stop - start) >= -slack


@settings(deadline=None)
@given(now=st.lists(steps, min_size=2, max_size=5), by_epoch=st.booleans())
def test_a_factor_depends_on_now_alone_so_that_a_resumed_run_finds_the_same(now, by_epoch):
    for config in (dict(type="Warmup", end=400), dict(type="Decay", gamma=0.9), dict(type="Window", begin=3, end=9)):
        old = TASK_UTILS.build(config | dict(by_epoch=by_epoch))
        for step in now:
            old(step, step)
        resumed = TASK_UTILS.build(config | dict(by_epoch=by_epoch))
        assert old(now[0], now[0]) == resumed(now[0], now[0])
