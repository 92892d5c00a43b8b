"""Neuron selection against plain counts, and against all subsets of a few neurons."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.neuron_selection import attribute_accuracy, mean_field, select_neurons, similarity, unary
from det_distill.losses.proposals import proposal_mimic

SEEDS = st.integers(0, 2**32)


def rolls(*shape: int, seed: int = 7) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample_by_sample(active: Tensor, attributes: Tensor) -> list[list[float]]:
    """(TPR + TNR) / 2 by counting; shares no code with what it judges."""
    table = []
    for neuron in active.T.tolist():
        row = []
        for attribute in attributes.T.tolist():
            having = [fires for fires, has in zip(neuron, attribute, strict=True) if has]
            lacking = [not fires for fires, has in zip(neuron, attribute, strict=True) if not has]
            both = having and lacking
            row.append((sum(having) / len(having) + sum(lacking) / len(lacking)) / 2 if both else 0.5)
        table.append(row)
    return table


def energy(kept: tuple[int, ...], phi: Tensor, psi: Tensor, coupling: float = 0.5) -> float:
    pairs = itertools.permutations(kept, 2)
    return sum(phi[i].item() for i in kept) + coupling * sum(psi[i, j].item() for i, j in pairs)


def best_subset(phi: Tensor, psi: Tensor, budget: int, coupling: float = 0.5) -> list[int]:
    subsets = itertools.combinations(range(len(phi)), budget)
    return list(min(subsets, key=lambda kept: energy(kept, phi, psi, coupling)))


def kept_by_mean_field(phi: Tensor, psi: Tensor, budget: int, coupling: float = 0.5) -> list[int]:
    return sorted(mean_field(phi, psi, coupling).argsort(descending=True, stable=True)[:budget].tolist())


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 3, 2), (40, 5, 4)], ids=str)
def test_accuracy_equals_counting_sample_by_sample(shape: tuple[int, int, int]):
    m, d, a = shape
    active, attributes = rolls(m, d) < 0.5, rolls(m, a, seed=8) < 0.3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attribute_accuracy(active, attributes)
    assert found.dtype == torch.float32
    for row, expected in zip(found.tolist(), sample_by_sample(active, attributes), strict=True):
        assert row == pytest.approx(expected, rel=1e-6)


def test_one_sample_with_an_attribute_or_without_it_is_enough_to_tell():
    fires = torch.tensor([[True], [False], [False]])
    assert attribute_accuracy(fires, fires).tolist() == [[1.0]]
    assert attribute_accuracy(~fires, ~fires).tolist() == [[1.0]]
    assert attribute_accuracy(fires, ~fires).tolist() == [[0.0]]


def test_counts_survive_autocast_where_bf16_would_round_them():
    active, attributes = torch.ones(999, 1).bool(), torch.arange(999)[:, None] < 997
    active[0] = False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attribute_accuracy(active, attributes).item() == pytest.approx(0.5 * 996 / 997, rel=1e-6)


def test_an_attribute_that_all_samples_have_or_none_tells_nothing():
    active = rolls(6, 4) < 0.5
    assert attribute_accuracy(active, torch.tensor([[True, False]] * 6)).eq(0.5).all()
    assert attribute_accuracy(active[:0], torch.zeros(0, 2).bool()).eq(0.5).all()


def test_a_neuron_that_is_the_attribute_scores_1_its_opposite_0_and_a_constant_one_half():
    attribute = torch.tensor([True, False, False, True, False])
    active = torch.stack((attribute, ~attribute, torch.ones(5).bool()), dim=1)
    assert attribute_accuracy(active, attribute[:, None])[:, 0].tolist() == [1, 0, 0.5]


def test_gives_the_values_worked_out_by_hand():
    f = unary(torch.tensor([[0.5, 0.9]]), torch.tensor([[0.5, 0.7]]))
    assert f.item() == pytest.approx(0.5)  # (.7 - .6) / (.9 - .7)
    assert similarity(torch.tensor([[0.0, 0], [1, 1]]))[0, 1].item() == pytest.approx(0.367879, abs=1e-6)  # exp(-2 / 2)
    phi, psi = torch.tensor([0.2, 1]), torch.ones(2, 2)
    energies = [energy(kept, phi, psi) for kept in ((), (0,), (1,), (0, 1))]
    assert energies == pytest.approx([0, 0.2, 1, 2.2])
    assert mean_field(phi, psi).tolist() == pytest.approx([0.401910, 0.197513], abs=1e-6)


def test_the_first_sweep_starts_at_one_half_and_takes_turns():
    first = 1 / (1 + math.exp(0.2 + 0.5))  # .2 + 2 * .5 * .5
    second = 1 / (1 + math.exp(1 + first))
    assert mean_field(torch.tensor([0.2, 1]), torch.ones(2, 2), sweeps=1).tolist() == pytest.approx([first, second])


def test_the_coupling_is_one_half_and_the_sweeps_are_ten_unless_told_otherwise():
    phi, psi = rolls(8), torch.full((8, 8), 0.9, dtype=torch.float64)
    assert mean_field(phi, psi).equal(mean_field(phi, psi, coupling=0.5, sweeps=10))
    assert not mean_field(phi, psi).equal(mean_field(phi, psi, sweeps=11))


@pytest.mark.parametrize("narrow", [torch.float16, torch.float32], ids=str)
def test_mean_field_of_two_dtypes_is_worked_out_in_the_one_that_holds_both(narrow: torch.dtype):
    phi, psi = rolls(4), rolls(4, 4, seed=8)
    for one, other in ((phi, psi.to(narrow)), (phi.to(narrow), psi)):
        assert mean_field(one, other, coupling=0.3).equal(mean_field(one.double(), other.double(), coupling=0.3))


@settings(deadline=None)
@given(seed=SEEDS, d=st.integers(1, 6), coupling=st.floats(0, 1.5), order=st.randoms())
def test_mean_field_settles_at_the_one_fixed_point_whatever_the_order(seed: int, d: int, coupling: float, order):
    phi, psi = rolls(d, seed=seed), similarity(rolls(d, 4, seed=seed + 1))
    q = mean_field(phi, psi, coupling, sweeps=200)
    for i in range(d):
        pull = phi[i] + 2 * coupling * sum(psi[i, j] * q[j] for j in range(d) if j != i)
        assert q[i].item() == pytest.approx(1 / (1 + math.exp(pull)), rel=1e-6)
    turned = list(range(d))
    order.shuffle(turned)
    torch.testing.assert_close(mean_field(phi[turned], psi[turned][:, turned], coupling, sweeps=200), q[turned])
    assert (q <= 0.5).all()


@settings(deadline=None)
@given(seed=SEEDS, budget=st.integers(1, 5), alike=st.sampled_from([0.0, 0.3, 1.0]))
def test_among_equally_unlike_neurons_it_finds_the_best_subset(seed: int, budget: int, alike: float):
    phi, psi = rolls(6, seed=seed), torch.full((6, 6), alike, dtype=torch.float64)
    assert kept_by_mean_field(phi, psi, budget) == best_subset(phi, psi, budget)


def test_of_two_that_are_the_same_it_keeps_one_as_the_best_subset_does():
    accuracies = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]) * 3  # the third is unlike, and costs more
    phi, psi = torch.tensor([0.20, 0.21, 0.5]), similarity(accuracies)
    assert kept_by_mean_field(phi, psi, 2) == best_subset(phi, psi, 2) == [0, 2]
    assert kept_by_mean_field(phi, torch.zeros(3, 3), 2) == [0, 1]


def test_of_random_neurons_it_mostly_finds_the_best_subset():
    excess = []
    for seed in range(60):
        phi, psi = rolls(6, seed=seed), similarity(3 * rolls(6, 4, seed=seed + 1000))
        costs = [energy(kept, phi, psi) for kept in itertools.combinations(range(6), 3)]
        above = energy(tuple(kept_by_mean_field(phi, psi, 3)), phi, psi) - min(costs)
        excess.append(above / (sum(costs) / len(costs) - min(costs)))  # a blind choice has 1 on average
    assert sum(share < 1e-9 for share in excess) > len(excess) / 2  # a blind choice: one in twenty
    assert sum(excess) / len(excess) < 0.15


@settings(deadline=None)
@given(seed=SEEDS)
def test_unary_equals_the_formula_neuron_by_neuron(seed: int):
    wanted, nuisance = rolls(4, 5, seed=seed), rolls(4, 3, seed=seed + 1)
    expected = [
        (max(n) - sum(n) / 3) / (max(w) - sum(w) / 5) for w, n in zip(wanted.tolist(), nuisance.tolist(), strict=True)
    ]
    assert unary(wanted, nuisance).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.5, 0.6, 1.0])
def test_a_neuron_that_tells_no_wanted_attribute_apart_costs_most_even_without_nuisance(level: float):
    wanted = torch.tensor([[level] * 3, [level] * 3, [0.2, 0.9, 0.4]])
    nuisance = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.0, 1.0]])
    cost = unary(wanted, nuisance)
    assert cost.tolist() == pytest.approx([1e6, 1e6, 0.5 / 0.4])
    assert mean_field(cost, torch.ones(3, 3)).isfinite().all()


def test_one_nuisance_alone_costs_nothing_and_a_gap_of_1e_6_already_tells():
    just_apart = torch.tensor([[0.0, 2e-6]], dtype=torch.float64)  # 1e-6 above its mean
    assert unary(just_apart, torch.tensor([[0.9]])).tolist() == [0]
    assert unary(just_apart / 2, torch.tensor([[0.9]])).tolist() == [1e6]


@pytest.mark.parametrize("narrow", [torch.float16, torch.float32], ids=str)
def test_unary_of_two_dtypes_is_worked_out_in_the_one_that_holds_both(narrow: torch.dtype):
    wide, other = rolls(4, 3), rolls(4, 3, seed=8).to(narrow)
    assert unary(wide, other).equal(unary(wide, other.double()))
    assert unary(other, wide).equal(unary(other.double(), wide))


def scene(samples: int = 60) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Activations, three classes, two nuisances; what neurons see is in the comments."""
    classes = torch.nn.functional.one_hot(torch.arange(samples) % 3).bool()
    far = torch.arange(samples) % 4 < 2
    seen = [
        torch.zeros(samples),  # nothing
        far,  # the nuisance
        classes[:, 0],  # a class
        torch.ones(samples),  # everything
        classes[:, 0],  # the same class again
        classes[:, 1],  # another class
        -classes[:, 2].float(),  # below 0: nothing
    ]
    return torch.stack([s.float() for s in seen], dim=1), classes, torch.stack((far, ~far), dim=1), far


def test_keeps_neurons_of_classes_and_leaves_the_nuisance_the_constant_and_the_silent():
    activations, wanted, nuisance, _ = scene()
    assert select_neurons(activations, wanted, nuisance, budget=3).tolist() == [2, 4, 5]
    one_of_each = select_neurons(activations, wanted, nuisance, budget=2, coupling=1.5)
    assert one_of_each.tolist() == [2, 5]  # not the same class twice
    assert one_of_each.dtype == torch.int64


def test_of_neurons_as_good_the_first_are_kept():
    activations = torch.tensor([[1.0] * 60, [0.0] * 60])
    chosen = select_neurons(activations, torch.eye(2).bool(), torch.tensor([[True], [False]]), budget=3, coupling=0.0)
    assert chosen.tolist() == [0, 1, 2]


def test_the_coupling_is_one_half_unless_told_otherwise():
    given = (rolls(12, 9, seed=36) - 0.6).float(), rolls(12, 4, seed=46) < 0.4, rolls(12, 3, seed=56) < 0.5
    assert select_neurons(*given, budget=1).equal(select_neurons(*given, budget=1, coupling=0.5))
    assert not select_neurons(*given, budget=1).equal(select_neurons(*given, budget=1, coupling=1.5))


@pytest.mark.parametrize("seed", [4, 6, 9, 10])  # where likeness on the nuisances changes the choice
def test_is_what_the_parts_give_on_the_neurons_that_ever_fire(seed: int):
    activations = (rolls(12, 9, seed=seed) - 0.6).float()
    activations[:, 2] = -1
    wanted, nuisance = rolls(12, 4, seed=seed + 10) < 0.4, rolls(12, 3, seed=seed + 20) < 0.5
    alive = [0, 1, 3, 4, 5, 6, 7, 8]
    x, y = (sample_by_sample(activations[:, alive] > 0, a) for a in (wanted, nuisance))
    phi = torch.tensor([(max(n) - sum(n) / 3) / (max(w) - sum(w) / 4) for w, n in zip(x, y, strict=True)])
    both = [w + n for w, n in zip(x, y, strict=True)]
    psi = torch.tensor([[math.exp(-(math.dist(a, b) ** 2) / 2) for b in both] for a in both])
    for budget in range(1, 9):
        expected = sorted(alive[i] for i in kept_by_mean_field(phi, psi, budget, coupling=1.9))
        assert select_neurons(activations, wanted, nuisance, budget, coupling=1.9).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_reads_any_dtype_and_is_the_same_under_autocast(dtype: torch.dtype):
    activations, wanted, nuisance, _ = scene()
    plain = select_neurons(activations, wanted, nuisance, budget=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert select_neurons(activations.to(dtype), wanted, nuisance, budget=3).equal(plain)
        x = rolls(5, 3).float()
        cast = similarity(x), mean_field(x[:, 0], similarity(x)), unary(x, x)
    for one, other in zip(cast, (similarity(x), mean_field(x[:, 0], similarity(x)), unary(x, x)), strict=True):
        assert one.equal(other)
    half = rolls(5, 3).to(dtype)
    assert {v.dtype for v in (similarity(half), mean_field(half[:, 0], half @ half.T), unary(half, half))} == {
        torch.promote_types(dtype, torch.float32)
    }


@pytest.mark.parametrize("budget", [0, 6])
def test_a_budget_beyond_the_neurons_that_fire_is_refused_and_named(budget: int):
    activations, wanted, nuisance, _ = scene()
    with pytest.raises(ValueError, match=f"that ever fire, 5, got {budget}"):
        select_neurons(activations, wanted, nuisance, budget)


def test_one_class_alone_is_refused_as_nothing_is_told_apart():
    activations, wanted, nuisance, _ = scene()
    with pytest.raises(ValueError, match="at least 2 wanted attributes, to tell apart, and 1 nuisance, got 1 and 2"):
        select_neurons(activations, wanted[:, :1], nuisance, 2)
    with pytest.raises(ValueError, match="got 3 and 0"):
        select_neurons(activations, wanted, nuisance[:, :0], 2)


def test_shapes_that_disagree_and_attributes_that_are_not_bool_are_refused_and_named():
    with pytest.raises(ValueError, match=r"got \(4, 2\), \(3, 2\)"):
        attribute_accuracy(torch.zeros(4, 2).bool(), torch.zeros(3, 2).bool())
    with pytest.raises(ValueError, match=r"got \(4,\), \(4, 2\)"):
        attribute_accuracy(torch.zeros(4).bool(), torch.zeros(4, 2).bool())
    with pytest.raises(ValueError, match=r"got \(4, 2\), \(4,\)"):
        attribute_accuracy(torch.zeros(4, 2).bool(), torch.zeros(4).bool())
    with pytest.raises(ValueError, match=r"want bool, got torch\.bool, torch\.int64"):
        attribute_accuracy(torch.zeros(4, 2).bool(), torch.zeros(4, 2).long())
    for wanted, nuisance in (((4, 2), (3, 2)), ((4,), (4, 2)), ((4, 2), (4,))):
        with pytest.raises(ValueError, match=re.escape(f"got {wanted}, {nuisance}")):
            unary(torch.zeros(wanted), torch.zeros(nuisance))
    with pytest.raises(ValueError, match=r"got \(4,\), \(4, 3\)"):
        mean_field(torch.zeros(4), torch.zeros(4, 3))


def test_the_regression_on_selected_neurons_is_the_unnormalised_proposal_mimic():
    activations, wanted, nuisance, _ = scene()
    chosen = select_neurons(activations, wanted, nuisance, budget=3)
    student = rolls(60, 3).float()
    total = 0.0
    for g, f in zip(student.tolist(), activations.tolist(), strict=True):
        total += sum((a - f[neuron]) ** 2 for a, neuron in zip(g, chosen.tolist(), strict=True))
    loss = proposal_mimic(student, activations[:, chosen], normalise=False)
    assert loss.item() == pytest.approx(total / (2 * 60), rel=1e-5)
