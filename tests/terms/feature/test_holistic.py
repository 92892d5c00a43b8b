"""The critic: it learns by its own optimiser and nobody else's, judges all levels, and resumes."""

import io
from typing import Any

import pytest
import torch
from shown import NOTHING, maps, specs, wired
from torch import Tensor

from det_distill.terms.feature.holistic import Holistic

OWN, ITS = dict(neck=maps(3, 8, 16)), dict(neck=maps(4, 8, 16, seed=1))


def critic(**config: Any) -> Holistic:
    adapter = dict(type="ConvAdapter", kernel=1)
    settings = dict(weight=1, size=8, width=2, adapter=adapter) | config
    return wired(Holistic("neck", **settings), dict(neck=specs(3, 8, 16)), dict(neck=specs(4, 8, 16)))


def weights(term: Holistic) -> list[Tensor]:
    return [value.detach().clone() for value in term.critic.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(one, other, strict=True))


def step(term: Holistic, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return term(OWN, ITS, NOTHING)


def test_it_judges_by_the_critic_that_has_just_learnt_and_averages_over_levels():
    term = critic()
    value = step(term)
    judged = [term.critic(adapt(one)).mean() for adapt, one in zip(term.adapters, OWN["neck"], strict=True)]
    assert value.item() == pytest.approx(-sum(judged).item() / 2, rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_only_its_own_optimiser_moves_the_critic(decay: float):
    term = critic()
    start, connector = weights(term), term.adapters[0].conv.weight.detach().clone()
    optimizer = torch.optim.SGD(term.parameters(), lr=1.0, momentum=0.9, weight_decay=decay)
    for seed in range(2):
        before = weights(term)
        value = step(term, seed)
        learnt = weights(term)
        assert term.adapters[0].conv.weight.grad is None  # the critic's step teaches nobody else
        assert not same(before, learnt)
        value.backward()
        assert all(p.grad is None and not p.requires_grad for p in term.critic.parameters())
        optimizer.step()
        optimizer.zero_grad()
        assert same(learnt, weights(term))
    assert not same(start, weights(term))
    assert not connector.equal(term.adapters[0].conv.weight)  # the student's optimiser did work


def test_it_does_not_learn_outside_training():
    term = critic()
    before = weights(term)
    with torch.no_grad():
        step(term)
    step(term.eval())
    assert same(before, weights(term))


def test_it_learns_to_tell_the_nets_apart():
    term = critic(lr=1e-2)

    def gap() -> float:
        adapted = [adapt(one) for adapt, one in zip(term.adapters, OWN["neck"], strict=True)]
        scores = [
            (term.critic(t).mean() - term.critic(s).mean()).item() for s, t in zip(adapted, ITS["neck"], strict=True)
        ]
        return sum(scores)

    term.critic.eval()
    before = gap()
    for seed in range(30):
        step(term, seed)
    assert gap() > before + 0.5


def saved(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("whole", [True, False])
def test_its_state_resumes_to_the_bit_and_without_the_optimiser_s_it_would_not(whole: bool):
    term, again = critic(), critic()
    for seed in range(3):
        step(term, seed)
    state = saved(term.state_dict())
    if not whole:
        del state["_extra_state"]
    again.load_state_dict(state, strict=whole)
    values = [[step(one, seed).item() for seed in (3, 4)] for one in (term, again)]
    assert (values[0] == values[1]) == whole
    assert same(weights(term), weights(again)) == whole


def test_levels_of_other_channels_are_refused():
    shows = dict(neck=(*specs(4, 8), *specs(6, 16)))
    with pytest.raises(ValueError, match=r"'neck' has levels of \[4, 6\] channels on the teacher; set strides=\[one\]"):
        wired(Holistic("neck", weight=1), shows, shows)
