"""Attention transfer as a term: levels paired by stride and averaged, judged by sums cell by cell."""

from math import sqrt

import pytest
from shown import NOTHING, maps, specs, wired
from torch import Tensor

from det_distill.terms.feature.attention import AttentionTransfer


def cell_by_cell(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        shares = []
        for one in (s, t):
            energy = [sum(v**2 for v in cell) for cell in one.flatten(1).T.tolist()]
            shares.append([e / sqrt(sum(e**2 for e in energy)) for e in energy])
        total += sum((a - b) ** 2 for a, b in zip(*shares, strict=True))
    return total / len(student)


def test_levels_are_paired_by_stride_and_averaged_whatever_their_channels():
    own, its = maps(4, 8, 16), maps(6, 16, 8, seed=1)
    term = wired(AttentionTransfer("neck", weight=1), dict(neck=specs(4, 8, 16)), dict(neck=specs(6, 16, 8)))
    value = term(dict(neck=own), dict(neck=its), NOTHING)
    assert value.item() == pytest.approx((cell_by_cell(own[0], its[1]) + cell_by_cell(own[1], its[0])) / 2, rel=1e-5)
    value.backward()
    assert all(one.grad is None for one in its)
    assert not list(term.parameters())


def test_the_mean_is_the_sum_over_cells():
    shown, goal = dict(neck=maps(4, 8)), dict(neck=maps(4, 8, seed=1))
    values = [
        wired(AttentionTransfer("neck", weight=1, reduction=how), *[dict(neck=specs(4, 8))] * 2)(shown, goal, NOTHING)
        for how in ("sum", "mean")
    ]
    assert values[1].item() == pytest.approx(values[0].item() / (8 * 12), rel=1e-5)


@pytest.mark.parametrize("config", [dict(power=0.5), dict(reduction="max")])
def test_what_cannot_be_computed_is_refused_at_once(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        AttentionTransfer("neck", weight=1, **config)
