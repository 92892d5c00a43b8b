"""Neuron selection as a term: what it selects by, once, and then regresses; its state in the middle of collecting."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from shown import SIZE, batch, wired
from torch import Tensor

from det_distill.terms.feature import neuron_selection
from det_distill.terms.feature.neuron_selection import NeuronSelection

TAP, CLASSES, NEURONS = "roi.embedding", 3, 6


class Head:
    num_classes = CLASSES


class OneClass:
    num_classes = 1


def term_of(samples: int = 10, budget: int = 2, head: Any = Head) -> NeuronSelection:
    term = NeuronSelection(weight=1, budget=budget, samples=samples)
    return wired(term, {TAP: (4,)}, {TAP: (NEURONS,)}, head=head)


def step(seed: int, boxes: int = 8) -> tuple[dict[str, Any], dict[str, Any]]:
    """Boxes of two images, every fourth of them background, some at the border."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (boxes,), generator=g)
    labels[::4] = CLASSES
    corner = torch.rand(boxes, 2, generator=g) * 40
    corner[1::3] = 0
    rois = torch.cat((torch.arange(boxes)[:, None] % 2, corner, corner + 5 + 20 * torch.rand(boxes, 2, generator=g)), 1)
    own = torch.randn(boxes, 4, generator=g).requires_grad_()
    its = torch.randn(boxes, NEURONS, generator=g).requires_grad_()
    return {TAP: own, "roi.rois": rois, "roi.targets": (labels,)}, {TAP: its}


def run(term: NeuronSelection, seeds: Any) -> list[Tensor]:
    return [term(*step(seed), batch([[], []])) for seed in seeds]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the selection was asked; it says neurons 1 and 4."""
    seen: list[tuple[Any, ...]] = []

    def select(*args: Any) -> Tensor:
        seen.append(args)
        return torch.tensor([1, 4])

    monkeypatch.setattr(neuron_selection, "select_neurons", select)
    return seen


def test_it_selects_once_by_exactly_the_first_samples_positive_boxes(asked: list[Any]):
    values = run(term_of(samples=10), range(4))  # 6 positive boxes a step
    assert [bool(value) for value in values] == [False, True, True, True]
    ((activations, wanted, nuisances, budget, coupling),) = asked
    rows = [
        (its[TAP][i], int(own["roi.targets"][0][i]), own["roi.rois"][i].tolist())
        for own, its in (step(0), step(1))
        for i in range(8)
        if own["roi.targets"][0][i] < CLASSES
    ][:10]
    assert (len(activations), budget, coupling) == (10, 2, 0.5)
    assert activations.equal(torch.stack([row[0] for row in rows]))
    assert wanted.tolist() == [[label == k for k in range(CLASSES)] for _, label, _ in rows]
    areas = [(x2 - x1) * (y2 - y1) for _, _, (_, x1, y1, x2, y2) in rows]
    low, high = np.quantile(areas, [1 / 3, 2 / 3])
    cut = [min(x1, y1) <= 0 or x2 >= SIZE[1] or y2 >= SIZE[0] for _, _, (_, x1, y1, x2, y2) in rows]
    assert nuisances.tolist() == [[a < low, a > high, c] for a, c in zip(areas, cut, strict=True)]
    assert 0 < sum(cut) < 10


def test_then_it_regresses_those_neurons_of_positive_boxes(asked: list[Any]):
    term = term_of(samples=2)
    own, its = step(0)
    value = term(own, its, batch([[], []]))
    total, count = 0.0, 0
    for i in range(8):
        if own["roi.targets"][0][i] < CLASSES:
            guess = term.adapter(own[TAP][i]).tolist()
            total += sum((guess[k] - its[TAP][i, j].item()) ** 2 for k, j in enumerate([1, 4]))
            count += 1
    assert value.item() == pytest.approx(total / (2 * count), rel=1e-5)
    value.backward()
    assert its[TAP].grad is None
    assert term.adapter.fc.weight.grad.any()
    assert own[TAP].grad.any()


def test_while_it_collects_it_is_a_zero_that_trains():
    own, its = step(0)
    value = term_of(samples=100)(own, its, batch([[], []]))
    assert value.item() == 0
    value.backward()
    assert own[TAP].grad.equal(torch.zeros_like(own[TAP]))


def test_the_neurons_that_tell_classes_apart_are_selected():
    """Neurons 0 to 2 fire on a class each, 3 on small boxes, 4 always, 5 never."""
    term = term_of(samples=60, budget=3)
    for seed in range(10):
        own, its = step(seed)
        labels, (_, x1, y1, x2, y2) = own["roi.targets"][0], own["roi.rois"].T
        small = (x2 - x1) * (y2 - y1) < 150
        fires = [*(labels == k for k in range(CLASSES)), small, labels >= 0, labels < 0]
        term(own, {TAP: torch.stack(fires, dim=1).float() - 0.5}, batch([[], []]))
    assert term.neurons.tolist() == [0, 1, 2]


@pytest.mark.parametrize("after", [1, 3])
def test_a_round_trip_in_the_middle_of_collecting_or_after_it_changes_nothing(after: int):
    whole, first, rest = (term_of(samples=14) for _ in range(3))
    values = run(whole, range(6))
    run(first, range(after))
    assert (first.neurons is None) == (after == 1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    rest.load_state_dict(torch.load(file, weights_only=True))
    assert run(rest, range(after, 6)) == values[after:]
    assert rest.neurons.equal(whole.neurons)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (dict(head=OneClass), "with one class no neuron tells classes apart"),
        (dict(budget=7), r"the number of the teacher's neurons=6; a number of at least 7"),
        (dict(samples=1), "samples=1; a number of at least 2"),
    ],
)
def test_what_cannot_be_selected_is_refused(config: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        term_of(**config)
