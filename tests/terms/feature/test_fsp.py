"""Flow of solution as a term: neighbouring levels in pairs, judged by Gram matrices of maps pooled by hand."""

import pytest
import torch
from shown import NOTHING, maps, specs, wired
from torch import Tensor

from det_distill.terms.feature.fsp import FlowOfSolution


def gram(fine: Tensor, coarse: Tensor) -> Tensor:
    b, c, h, w = coarse.shape
    pooled = fine.reshape(b, c, h, 2, w, 2).amax(dim=(3, 5))
    return torch.einsum("bmhw,bnhw->bmn", pooled, coarse) / (h * w)


def test_every_two_neighbours_make_a_flow():
    own, its, shows = maps(4, 4, 8, 16), maps(4, 4, 8, 16, seed=1), dict(neck=specs(4, 4, 8, 16))
    flows = [(gram(own[i], own[i + 1]) - gram(its[i], its[i + 1])).square().sum().item() / 2 for i in (0, 1)]
    value = wired(FlowOfSolution("neck", weight=1), shows, shows)(dict(neck=own), dict(neck=its), NOTHING)
    assert value.item() == pytest.approx(sum(flows) / 2, rel=1e-5)


def test_nets_of_other_widths_need_an_adapter_and_learn_by_it():
    own, its = dict(neck=specs(4, 8, 16)), dict(neck=specs(6, 8, 16))
    with pytest.raises(ValueError, match=r"has 4 channels on the student and 6 on the teacher.*set adapter="):
        wired(FlowOfSolution("neck", weight=1), own, its)
    term = wired(FlowOfSolution("neck", weight=1, adapter=dict(type="ConvAdapter")), own, its)
    term(dict(neck=maps(4, 8, 16)), dict(neck=maps(6, 8, 16, seed=1)), NOTHING).backward()
    assert all(adapter.conv.weight.grad.any() for adapter in term.adapters)


def test_one_level_has_no_flow():
    shows = dict(neck=specs(4, 8, 16))
    with pytest.raises(ValueError, match=r"'neck' has 1 level to compare; a flow is between two"):
        wired(FlowOfSolution("neck", weight=1, strides=[8]), shows, shows)
