"""Neuron selectivity as a term, judged by the paper's Gram form of the polynomial kernel."""

import pytest
import torch
from shown import NOTHING, maps, specs, wired
from torch import Tensor

from det_distill.terms.feature.selectivity import NeuronSelectivity


def gram(patterns: Tensor) -> Tensor:
    rows = torch.stack([row / row.square().sum().sqrt() for row in patterns.flatten(1)])
    return rows.T @ rows / len(rows)


def test_it_is_the_mean_over_levels_and_images_of_the_gap_of_gram_matrices():
    own, its = maps(4, 8, 16), maps(6, 8, 16, seed=1)
    gaps = [
        (gram(s) - gram(t)).square().sum().item()
        for level in zip(own, its, strict=True)
        for s, t in zip(*level, strict=True)
    ]
    term = wired(NeuronSelectivity("neck", weight=1), dict(neck=specs(4, 8, 16)), dict(neck=specs(6, 8, 16)))
    assert term(dict(neck=own), dict(neck=its), NOTHING).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-4)


@pytest.mark.parametrize("kernel", ["linear", "polynomial", "gaussian"])
def test_channels_in_another_order_are_no_difference(kernel):
    shows, own = dict(neck=specs(4, 8)), maps(4, 8)
    term = wired(NeuronSelectivity("neck", weight=1, kernel=kernel), shows, shows)
    assert term(dict(neck=own), dict(neck=[own[0][:, [2, 0, 3, 1]]]), NOTHING).item() == pytest.approx(0, abs=1e-6)
    assert term(dict(neck=own), dict(neck=maps(4, 8, seed=1)), NOTHING) > 1e-3


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match=r"kernel='poly'.*did you mean 'polynomial'"):
        NeuronSelectivity("neck", weight=1, kernel="poly")
