"""Pair-wise affinities as a term."""

import pytest
import torch
from shown import NOTHING, specs, wired

from det_distill.terms.relation.pair_wise import PairWise


def test_the_notes_oracle_and_the_mean_over_levels():
    # Two places at right angles on the teacher, alike on the student: 2 of 4 pairs off by 1, so 1/2; the other level 0.
    apart = torch.eye(2).view(1, 2, 1, 2)
    alike = torch.tensor([[1.0, 1], [0, 0]]).view(1, 2, 1, 2)
    shows = dict(neck=specs(2, 8, 16))
    term = wired(PairWise("neck", weight=1), shows, shows)
    assert term(dict(neck=(alike, apart)), dict(neck=(apart, apart)), NOTHING).item() == pytest.approx(0.25)


def test_channels_may_differ():
    term = wired(PairWise("neck", weight=1), dict(neck=specs(2, 8)), dict(neck=specs(5, 8)))
    assert term(dict(neck=[torch.rand(2, 2, 4, 6)]), dict(neck=[torch.rand(2, 5, 4, 6)]), NOTHING) > 0


@pytest.mark.parametrize("scale", [0, 1.5])
def test_a_share_outside_0_to_1_is_refused(scale):
    with pytest.raises(ValueError, match=f"scale={scale}; 0 < scale <= 1 is expected"):
        PairWise("neck", weight=1, scale=scale)
