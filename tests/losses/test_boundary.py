"""Boundary samples against steps taken one sample and one number at a time."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from det_distill.losses.boundary import base_samples, boundary_samples, sample_targets
from det_distill.schedules import Ramp

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
ZERO, ONE = torch.tensor([0]), torch.tensor([1])


def draw(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mirrored(x: Tensor) -> Tensor:
    """Logits (x, -x) of (N, 1)."""
    return torch.cat((x, -x), dim=1)


def linear(classes: int, features: int, seed: int = 8) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    weight = draw(classes, features, seed=seed)
    return weight, lambda x: x.flatten(1) @ weight.T


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z - max(logits)) for z in logits]
    return [power / sum(powers) for power in powers]


def sample_by_sample(student: Tensor, teacher: Tensor, labels: Tensor, num: int) -> list[int]:
    """The rule in plain numbers; shares no code with what it judges."""
    gaps = {}
    for i, (s, t, y) in enumerate(zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True)):
        if s.index(max(s)) == y == t.index(max(t)):
            both = enumerate(zip(softmax(s), softmax(t), strict=True))
            gaps[i] = sum((p - q) ** 2 for c, (p, q) in both if c != y)
    return sorted(gaps, key=lambda i: -gaps[i])[:num]


def step_by_step(x: list[float], weight: list[list[float]], b: int, k: int, steps: int, clamp: float) -> list[float]:
    """The published step for one sample of a linear classifier, in plain numbers."""
    for _ in range(steps):
        scores = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
        if scores.index(max(scores)) != b:
            break
        g = [up - down for up, down in zip(weight[k], weight[b], strict=True)]
        length = 0.3 * (scores[b] - scores[k] + 1e-4) / math.sqrt(sum(v * v for v in g))
        x = [max(-clamp, min(clamp, v + length * slope)) for v, slope in zip(x, g, strict=True)]
    return x


@pytest.mark.parametrize(("steps", "x"), [(0, 1), (1, 0.39997), (2, 0.159958), (3, 0.0639532)])
def test_gives_the_steps_worked_out_by_hand(steps: int, x: float):
    start = torch.ones(1, 1, dtype=torch.float64)
    found = boundary_samples(start, mirrored, ZERO, ONE, steps=steps)  # x - 0.3 * (2 x + 1e-4)
    assert found.item() == pytest.approx(x, abs=1e-6)


def test_the_codes_schedule_is_two_ramps():
    kd, boundary = Ramp(4, 1, 0, 80, by_epoch=True), Ramp(2, 0, 0, 60, by_epoch=True)
    found = {epoch: (kd(0, epoch), boundary(0, epoch)) for epoch in range(81)}
    assert found[40] == pytest.approx((2.5, 0.666667), abs=1e-6)
    assert found[60] == pytest.approx((1.75, 0))
    for epoch, pair in found.items():
        by_hand = max(3 * (1 - epoch / 80), 0) + 1, max(2 * (1 - 4 / 3 * epoch / 80), 0)
        assert pair == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("shape", [(1, 3), (6, 2), (5, 2, 3, 2)], ids=str)
def test_moves_as_each_sample_would_alone(shape: tuple[int, ...], steps: int, clamp: float | None):
    features = draw(*shape)
    weight, classify = linear(4, features[0].numel())
    base = classify(features).argmax(dim=1)
    target = (base + 1) % 4
    base[len(base) // 2] = (base[len(base) // 2] + 2) % 4 if len(base) > 2 else base[len(base) // 2]  # not its class
    found = boundary_samples(features, classify, base, target, steps, clamp=clamp)
    assert found.shape == shape
    for after, x, b, k in zip(found, features, base.tolist(), target.tolist(), strict=True):
        alone = step_by_step(x.flatten().tolist(), weight.tolist(), b, k, steps, math.inf if clamp is None else clamp)
        assert after.flatten().tolist() == pytest.approx(alone, rel=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), order=st.permutations(range(6)))
def test_no_sample_minds_its_neighbours(seed: int, order: list[int]):
    features = draw(6, 5, seed=seed)
    _, classify = linear(3, 5)
    base = classify(features).argmax(dim=1)
    target = (base + 1) % 3
    found = boundary_samples(features, classify, base, target)
    torch.testing.assert_close(boundary_samples(features[order], classify, base[order], target[order]), found[order])


def test_stops_beyond_the_boundary_and_near_it():
    start = torch.tensor([[1.0], [0.5], [2.0]], dtype=torch.float64)
    found = boundary_samples(start, mirrored, torch.zeros(3).long(), torch.ones(3).long(), steps=100)
    assert (mirrored(found).argmax(dim=1) == 1).all()
    assert (found.abs() < 1e-4).all()  # eps alone carries it across
    assert not found.requires_grad


def test_ten_steps_are_the_most_unless_told_otherwise():
    start = torch.tensor([[1e4]], dtype=torch.float64)  # each step leaves 0.4 of it: ten leave 1
    found = boundary_samples(start, mirrored, ZERO, ONE)
    assert found.equal(boundary_samples(start, mirrored, ZERO, ONE, steps=10))
    assert not found.equal(boundary_samples(start, mirrored, ZERO, ONE, steps=11))


def test_what_does_not_move_keeps_its_bits():
    features = draw(2, 3).float() * 10
    for classify in (
        lambda x: x * torch.tensor([0.0, 1.0, 0.0]) + torch.tensor([0.0, 99.0, 0.0]),  # of another class
        lambda x: x * 0 + torch.tensor([1.0, 0.0, 0.0]),  # no gradient anywhere
    ):
        found = boundary_samples(features, classify, ZERO.expand(2), ONE.expand(2), clamp=1e6)
        assert found.equal(features)
    stays = boundary_samples(features, lambda x: x + torch.tensor([0.0, 999.0, 0.0]), ZERO.expand(2), ONE.expand(2), 1)
    assert stays.equal(features)
    stays.zero_()
    assert features.all()  # it was a copy


def test_leaves_no_trace():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    features = draw(5, 4).requires_grad_()
    before = features.detach().clone()
    with torch.no_grad():
        base = net(features).argmax(dim=1)
        inside = boundary_samples(features, net, base, (base + 1) % 3)
        assert not torch.is_grad_enabled()
    outside = boundary_samples(features, net, base, (base + 1) % 3)
    assert inside.equal(outside)
    assert not outside.equal(before)
    assert not inside.requires_grad
    assert not outside.requires_grad
    assert features.detach().equal(before)
    assert features.grad is None
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_frozen_classifiers_do():
    net = nn.Linear(4, 3).double().requires_grad_(False)
    base = net(draw(5, 4)).argmax(dim=1)
    assert not boundary_samples(draw(5, 4), net, base, (base + 1) % 3).equal(draw(5, 4))


@HALVES
def test_moves_in_fp32_or_better(dtype: torch.dtype):
    net = nn.Linear(4, 3)
    features = draw(5, 4).to(dtype)
    base = net(features.float()).argmax(dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = boundary_samples(features, net, base, (base + 1) % 3)
        assert net(features.float()).dtype == torch.bfloat16  # autocast is back
    assert found.dtype == torch.float32
    assert found.equal(boundary_samples(features.float(), net, base, (base + 1) % 3))


def test_no_samples_are_no_special_case():
    none = torch.zeros(0, dtype=torch.long)
    assert boundary_samples(torch.zeros(0, 3, 7, 7), nn.Identity(), none, none).shape == (0, 3, 7, 7)
    assert base_samples(torch.zeros(0, 3), torch.zeros(0, 3), none).equal(none)
    assert sample_targets(torch.zeros(0, 3), none).equal(none)
    wrong = base_samples(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), ONE)
    assert wrong.equal(none)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 12), num=st.integers(0, 12))
def test_bases_are_the_right_ones_that_differ_most(seed: int, count: int, num: int):
    student, teacher = draw(2, count, 3, seed=seed)
    teacher = student + teacher / 2
    labels = torch.where(torch.arange(count) % 4 == 3, (teacher.argmax(dim=1) + 1) % 3, teacher.argmax(dim=1))
    found = base_samples(student, teacher, labels, num)
    assert found.dtype == torch.int64
    assert found.tolist() == sample_by_sample(student, teacher, labels, num)


def test_bases_of_equal_gap_come_in_order():
    logits = torch.tensor([[1.0, 0.0]]).expand(100, 2)
    assert base_samples(logits, logits, torch.zeros(100).long()).tolist() == list(range(64))


def test_the_true_class_has_no_say_in_the_gap():
    teacher = torch.tensor([[0.6, 0.4, 0.0], [0.5, 0.4, 0.1]]) + 1e-9
    student = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.0, 0.4]]) + 1e-9
    # gaps without class 0: 0.09, then 0.16 + 0.09 = 0.25; with it 0.18 and 0.26; of class 0 alone 0.09 and 0.01
    assert base_samples(student.log(), teacher.log(), torch.zeros(2).long(), num=1).tolist() == [1]
    # 0.16 without class 0 and 0.32 with it, against 0.25 and 0.26: the order turns round
    student[0] = torch.tensor([0.999, 0.001, 0.0]) + 1e-9
    assert base_samples(student.log(), teacher.log(), torch.zeros(2).long(), num=1).tolist() == [1]


def test_gaps_too_small_to_add_to_one_still_tell():
    teacher = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
    student = torch.tensor([[9.1, 0.0], [10.0, 0.0]])  # wrong by 1.1e-4 and by 7.8e-5: gaps of 1.4e-10 and 6.1e-9
    assert base_samples(student, teacher, torch.zeros(2).long()).tolist() == [1, 0]


@HALVES
def test_bases_are_judged_in_fp32(dtype: torch.dtype):
    student, teacher = (z.to(dtype) for z in draw(2, 40, 3))
    labels = teacher.argmax(dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = base_samples(student, teacher, labels)
    assert found.equal(base_samples(student.float(), teacher.float(), labels))


@HALVES
def test_targets_are_drawn_in_fp32(dtype: torch.dtype):
    teacher = draw(20_000, 5).to(dtype)  # enough for a rounded probability to draw another class somewhere
    labels = teacher.argmax(dim=1)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        found = sample_targets(teacher, labels)
    torch.manual_seed(3)
    assert found.equal(sample_targets(teacher.float(), labels))


def test_targets_are_drawn_by_the_teachers_probabilities_and_never_the_label():
    torch.manual_seed(7)
    teacher = torch.tensor([0.5, 0.1, 0.3, 0.1]).log().repeat(20_000, 1)
    for label, shares in ((0, [0, 0.2, 0.6, 0.2]), (2, [5 / 7, 1 / 7, 0, 1 / 7])):
        drawn = Counter(sample_targets(teacher, torch.full((20_000,), label)).tolist())
        assert [drawn[c] / 20_000 for c in range(4)] == pytest.approx(shares, abs=0.015)  # over 4 deviations
        assert drawn[label] == 0


def test_of_two_classes_the_other_is_the_target():
    assert sample_targets(torch.zeros(3, 2), torch.tensor([0, 1, 0])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_a_teacher_sure_of_the_label_still_names_a_target(dtype: torch.dtype):
    teacher = torch.tensor([[60000.0, 0.0, -60000.0]], dtype=dtype)
    assert sample_targets(teacher, ZERO).tolist() == [1]


@pytest.mark.parametrize(
    ("student", "teacher", "labels"),
    [((4, 3), (1, 3), (4,)), ((4, 3), (4, 3), (1,)), ((4, 3), (4, 3), (4, 1)), ((3,), (3,), ()), ((), (), ())],
    ids=str,
)
def test_nets_that_disagree_are_refused_and_named(student, teacher, labels):
    with pytest.raises(ValueError, match="want equal") as error:
        base_samples(torch.zeros(student), torch.zeros(teacher), torch.zeros(labels).long())
    assert all(str(shape) in str(error.value) for shape in (student, teacher, labels))


@pytest.mark.parametrize(("teacher", "labels"), [((4, 3), (1,)), ((4, 1), (4,)), ((3,), (3,)), ((), ())], ids=str)
def test_targets_of_disagreeing_shapes_or_one_class_are_refused_and_named(teacher, labels):
    with pytest.raises(ValueError, match="K >= 2") as error:
        sample_targets(torch.zeros(teacher), torch.zeros(labels).long())
    assert all(str(shape) in str(error.value) for shape in (teacher, labels))


@pytest.mark.parametrize(
    ("features", "base", "target"),
    [((4, 3), (1,), (4,)), ((4, 3), (4,), (1,)), ((4, 3), (4, 1), (4, 1)), ((4,), (4,), (4,)), ((), (), ())],
    ids=str,
)
def test_features_and_classes_that_disagree_are_refused_and_named(features, base, target):
    with pytest.raises(ValueError, match=r"want \(N, \.\.\.\) features") as error:
        boundary_samples(torch.zeros(features), nn.Identity(), torch.zeros(base).long(), torch.zeros(target).long())
    assert all(str(shape) in str(error.value) for shape in (features, base, target))


@pytest.mark.parametrize("logits", [(4, 2), (1, 2, 1), (2,)], ids=str)
def test_a_classifier_that_gives_no_logits_a_sample_is_refused_and_named(logits: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"want \(N, K\) logits of 1 samples") as error:
        boundary_samples(torch.zeros(1, 3), lambda x: x.sum() + torch.zeros(logits), ZERO, ONE)
    assert str(logits) in str(error.value)
