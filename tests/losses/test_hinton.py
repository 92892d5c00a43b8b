"""Softened divergences against sums done one class at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.ensembles import softened
from det_distill.losses.hinton import soft_binary_kl, soft_kl, specialist_kl

DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])


def draw(*shape: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def class_by_class(student: Tensor, target: Tensor, temperature: float, groups: list[int]) -> float:
    """The published formula in plain numbers; shares no code with the loss."""
    total = 0.0
    for logits, row in zip(student.tolist(), target.tolist(), strict=True):
        powers = [math.exp(z / temperature) for z in logits]
        for g, q in enumerate(row):
            p = sum(power for power, group in zip(powers, groups, strict=True) if group == g) / sum(powers)
            total += q * math.log(q / p) if q else 0.0
    return temperature**2 * total / max(1, len(student))


def outcome_by_outcome(student: Tensor, target: Tensor, temperature: float) -> float:
    total = 0.0
    for logit, q in zip(student.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit / temperature))
        total += sum(a * math.log(a / b) for a, b in ((q, p), (1 - q, 1 - p)) if a)
    return temperature**2 * total / max(1, len(student))


@pytest.mark.parametrize(
    ("temperature", "gradient"),
    [(2.0, 0.462117), (20.0, 0.499584), (1e5, 0.5)],  # the last: logits themselves matched, (z - v) / K
)
def test_gives_the_values_worked_out_by_hand(temperature: float, gradient: float):
    teacher = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    loss = soft_kl(student, softened(teacher, temperature), temperature)
    loss.backward()
    assert student.grad[0].tolist() == pytest.approx((-gradient, gradient), abs=1e-6)
    if temperature == 2:
        assert loss.item() == pytest.approx(0.443776, abs=1e-6)


def test_a_dustbin_gives_the_value_worked_out_by_hand():
    student = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log().requires_grad_()
    target = torch.tensor([[0.6, 0.4]], dtype=torch.float64)
    loss = soft_kl(student, target, 1.0, [0, 1, 1])
    loss.backward()
    assert loss.item() == pytest.approx(0.0201355, abs=1e-7)  # 0.6 log 0.6/0.5 + 0.4 log 0.4/0.5
    # P - q shared out within the dustbin as P is: 0.5 - 0.6, then 0.1 * 0.3/0.5 and 0.1 * 0.2/0.5
    assert student.grad[0].tolist() == pytest.approx((-0.1, 0.06, 0.04))


@TEMPERATURES
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((1, 1), [0]), ((1, 2), [0, 1]), ((5, 4), [0, 1, 2, 3]), ((5, 4), [1, 0, 1, 2]), ((2, 5), [0, 0, 0, 0, 0])],
    ids=str,
)
def test_equals_the_formula_class_by_class(shape: tuple[int, int], groups: list[int], temperature: float):
    student, _ = draw(*shape)
    target = draw(shape[0], max(groups) + 1, seed=8)[1].softmax(dim=1).detach().requires_grad_()
    loss = soft_kl(student, target, temperature, groups)
    assert loss.item() == pytest.approx(class_by_class(student, target, temperature, groups), rel=1e-9, abs=1e-12)
    assert torch.autograd.gradcheck(lambda s: soft_kl(s, target, temperature, groups), student)
    assert torch.autograd.grad(loss, target, allow_unused=True) == (None,)


@TEMPERATURES
@pytest.mark.parametrize("shape", [(1, 1), (5, 4)], ids=str)
def test_yes_or_no_equals_the_formula_outcome_by_outcome(shape: tuple[int, int], temperature: float):
    student, teacher = draw(*shape)
    target = teacher.sigmoid().detach().requires_grad_()
    loss = soft_binary_kl(student, target, temperature)
    assert loss.item() == pytest.approx(outcome_by_outcome(student, target, temperature), rel=1e-9)
    assert torch.autograd.gradcheck(lambda s: soft_binary_kl(s, target, temperature), student)
    assert torch.autograd.grad(loss, target, allow_unused=True) == (None,)


def test_without_groups_classes_go_one_to_one():
    student, teacher = draw(5, 4)
    target = softened(teacher, 2.0)
    torch.testing.assert_close(soft_kl(student, target, 2.0), soft_kl(student, target, 2.0, range(4)))


def test_a_group_of_many_classes_is_the_sum_of_their_probabilities():
    student, teacher = draw(5, 4)
    pairs = softened(teacher, 2.0).view(5, 2, 2).sum(dim=2)
    summed = (student / 2).softmax(dim=1).view(5, 2, 2).sum(dim=2).log()
    expected = 4 * torch.nn.functional.kl_div(summed, pairs, reduction="batchmean")
    torch.testing.assert_close(soft_kl(student, pairs, 2.0, [0, 0, 1, 1]), expected)


def test_yes_or_no_is_the_two_class_loss_with_one_logit_at_zero():
    student, teacher = draw(6, 1)
    two = [torch.cat((z, torch.zeros_like(z)), dim=1) for z in (student, teacher)]
    expected = soft_kl(two[0], softened(two[1], 3.0), 3.0)
    torch.testing.assert_close(soft_binary_kl(student, (teacher / 3).sigmoid(), 3.0), expected)


@TEMPERATURES
def test_gradient_is_the_temperature_times_the_gap_of_probabilities(temperature: float):
    student, teacher = draw(5, 4)
    (gradient,) = torch.autograd.grad(soft_kl(student, softened(teacher, temperature), temperature), student)
    gap = (student / temperature).softmax(dim=1) - (teacher / temperature).softmax(dim=1)
    torch.testing.assert_close(gradient, temperature * gap / 5)
    sigmoids = (teacher / temperature).sigmoid()
    (gradient,) = torch.autograd.grad(soft_binary_kl(student, sigmoids, temperature), student)
    torch.testing.assert_close(gradient, temperature * ((student / temperature).sigmoid() - sigmoids) / 5)


def test_in_the_limit_of_heat_centred_logits_are_matched():
    student, teacher = draw(5, 4)
    (gradient,) = torch.autograd.grad(soft_kl(student, softened(teacher, 1e5), 1e5), student)
    centred = (student - student.mean(dim=1, keepdim=True)) - (teacher - teacher.mean(dim=1, keepdim=True))
    torch.testing.assert_close(gradient, centred / 4 / 5, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), temperature=st.floats(0.5, 20), order=st.permutations(range(4)))
def test_never_negative_zero_at_the_teacher_blind_to_order_and_offset(seed: int, temperature: float, order: list[int]):
    student, teacher = draw(3, 4, seed=seed)
    target = softened(teacher, temperature)
    loss = soft_kl(student, target, temperature)
    assert loss >= 0
    assert soft_kl(teacher, target, temperature).item() == pytest.approx(0, abs=1e-10)
    torch.testing.assert_close(soft_kl(student[:, order], target[:, order], temperature), loss)
    torch.testing.assert_close(soft_kl(student[[2, 0, 1]] + 5, target[[2, 0, 1]], temperature), loss)
    groups = [0, 1, 1, 0]
    lumped = torch.stack((target[:, [0, 3]].sum(dim=1), target[:, [1, 2]].sum(dim=1)), dim=1)
    coarse = soft_kl(student, lumped, temperature, groups)
    assert 0 <= coarse <= loss + 1e-12  # what is lumped together cannot tell more apart
    torch.testing.assert_close(soft_kl(student[:, order], lumped, temperature, [groups[k] for k in order]), coarse)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), temperature=st.floats(0.5, 20))
def test_yes_or_no_is_never_negative_and_zero_at_the_teacher(seed: int, temperature: float):
    student, teacher = draw(3, 4, seed=seed)
    target = (teacher / temperature).sigmoid()
    assert soft_binary_kl(student, target, temperature) >= 0
    assert soft_binary_kl(teacher, target, temperature).item() == pytest.approx(0, abs=1e-10)
    flipped = soft_binary_kl(-student, 1 - target, temperature)
    torch.testing.assert_close(flipped, soft_binary_kl(student, target, temperature))


@DTYPES
@pytest.mark.parametrize("sure", [[1.0, 0.0], [0.0, 1.0]], ids=str)
@pytest.mark.parametrize("logit", [0.0, 1000.0, -1000.0])
def test_sure_targets_and_extreme_logits_stay_finite(logit: float, sure: list[float], dtype: torch.dtype):
    target = torch.tensor([sure])
    student = torch.tensor([[logit, -logit]], dtype=dtype, requires_grad=True)
    loss = soft_kl(student, target, 1.0)
    lumped = soft_kl(student, target, 1.0, [0, 1])
    yes_or_no = soft_binary_kl(student, target, 1.0)
    (loss + lumped + yes_or_no).backward()
    wrong = max(0.0, logit if sure[0] == 0 else -logit)  # 2 |z| where the classes are swapped, log 2 in the middle
    assert loss.item() == lumped.item() == pytest.approx(2 * wrong if logit else math.log(2))
    assert yes_or_no.item() == pytest.approx(2 * wrong if logit else 2 * math.log(2))
    assert student.grad.isfinite().all()


def test_a_class_both_rule_out_has_no_say():
    student = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    loss = soft_kl(student, torch.tensor([[0.5, 0.5, 0.0]]), 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(soft_kl(student[:, :2], torch.tensor([[0.5, 0.5]]), 2.0).item())
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("groups", [None, [0, 1, 1]], ids=["one to one", "grouped"])
def test_no_boxes_give_a_zero_that_trains(groups: list[int] | None):
    student = torch.zeros(0, 3, requires_grad=True)
    loss = soft_kl(student, torch.zeros(0, 3 if groups is None else 2), 4.0, groups)
    loss = loss + soft_binary_kl(student, torch.zeros(0, 3), 4.0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == student.shape


@DTYPES
def test_computes_in_fp32_or_better(dtype: torch.dtype):
    returned = torch.float64 if dtype == torch.float64 else torch.float32
    student, teacher = (logits.detach().to(dtype) for logits in draw(300, 3))
    student.requires_grad_()
    groups = [0, 1, 1]
    classes, lumped = softened(teacher, 4.0).to(dtype), softened(teacher[:, :2], 4.0).to(dtype)
    for loss, others in ((soft_kl, (classes, 4.0)), (soft_kl, (lumped, 4.0, groups)), (soft_binary_kl, (classes, 4.0))):
        student.grad = None
        target, *rest = others
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(student, target, *rest)
        value.backward()
        assert value.dtype == returned
        assert student.grad.dtype == dtype
        assert value.item() == loss(student.to(returned), target.to(returned), *rest).item()
        assert value.item() == pytest.approx(loss(student.double(), target.double(), *rest).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("student", "target", "groups"),
    [
        ((4, 3), (1, 3), None),
        ((4, 3), (4, 1), None),
        ((4, 3), (4, 2), None),
        ((3,), (3,), None),
        ((4, 3), (4, 3, 1), None),
        ((4, 3), (1, 2), [0, 1, 1]),
        ((4, 3), (2,), [0, 1, 1]),
        ((4, 3, 1), (4, 2), [0, 1, 1]),
        ((4, 3), (4, 2, 1), [0, 1, 1]),
        ((), (), None),
    ],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, target, groups):
    with pytest.raises(ValueError, match=r"want \(N, C\) logits") as error:
        soft_kl(torch.zeros(student), torch.zeros(target), 2.0, groups)
    assert all(str(shape) in str(error.value) for shape in (student, target))


@pytest.mark.parametrize(("student", "target"), [((4, 3), (1, 3)), ((4, 3), (4, 1)), ((4,), (4,)), ((), ())], ids=str)
def test_yes_or_no_of_disagreeing_shapes_is_refused_and_named(student, target):
    with pytest.raises(ValueError, match=r"want \(N, K\) logits") as error:
        soft_binary_kl(torch.zeros(student), torch.zeros(target), 2.0)
    assert all(str(shape) in str(error.value) for shape in (student, target))


# ---------------------------------------------------------------- specialists


def specialist_by_hand(
    student: Tensor, teacher: Tensor, shared: list[tuple[int, int]], temperature: float, on: list[bool]
) -> float:
    """The classes shared, then all the rest, in plain numbers; shares no code with the loss."""
    total = 0.0
    for own, its, asked in zip(student.tolist(), teacher.tolist(), on, strict=True):
        q, p = ([math.exp(z / temperature) for z in row] for row in (own, its))
        pairs = [(p[one] / sum(p), q[other] / sum(q)) for one, other in shared]
        pairs.append((1 - sum(a for a, _ in pairs), 1 - sum(b for _, b in pairs)))
        total += sum(a * math.log(a / b) for a, b in pairs) if asked else 0
    return temperature**2 * total / max(1, len(student))


@TEMPERATURES
@pytest.mark.parametrize("on", [None, [True, False, True, False, False], [False] * 5, [True] * 5], ids=str)
@pytest.mark.parametrize("shared", [[(0, 0)], [(1, 0), (0, 2)], [(2, 1), (0, 0), (1, 3)]], ids=str)
def test_a_specialist_equals_the_formula_class_by_class(
    shared: list[tuple[int, int]], on: list[bool] | None, temperature: float
):
    student, _ = draw(5, 5)
    _, teacher = draw(5, 4, seed=8)
    asked = None if on is None else torch.tensor(on)
    loss = specialist_kl(student, teacher, shared, temperature, asked)
    expected = specialist_by_hand(student, teacher, shared, temperature, on or [True] * 5)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert torch.autograd.gradcheck(lambda s: specialist_kl(s, teacher, shared, temperature, asked), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_a_specialist_gives_the_value_worked_out_by_hand():
    student = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log().requires_grad_()
    teacher = torch.tensor([[0.4, 0.6]], dtype=torch.float64).log()
    loss = specialist_kl(student, teacher, [(1, 0)], 1.0)  # its class 1 is the student's 0
    loss.backward()
    assert loss.item() == pytest.approx(0.0201355, abs=1e-7)  # 0.6 log 0.6/0.5 + 0.4 log 0.4/0.5
    assert student.grad[0].tolist() == pytest.approx((-0.1, 0.06, 0.04))  # as a dustbin's above


def test_a_specialist_that_knows_all_classes_is_the_plain_loss():
    student, teacher = draw(5, 4)
    expected = soft_kl(student, softened(teacher, 2.0), 2.0)
    torch.testing.assert_close(specialist_kl(student, teacher, [(k, k) for k in range(3)], 2.0), expected)
    permuted = specialist_kl(student, teacher[:, [2, 0, 1, 3]], [(1, 0), (2, 1), (0, 2)], 2.0)
    torch.testing.assert_close(permuted, expected)


@pytest.mark.parametrize(
    ("count", "on"), [(0, None), (0, []), (4, [False] * 4)], ids=["no boxes", "none on", "all off"]
)
def test_a_specialist_without_a_say_gives_a_zero_that_trains(count: int, on: list[bool] | None):
    student = torch.zeros(count, 3, requires_grad=True)
    asked = None if on is None else torch.tensor(on, dtype=torch.bool)
    loss = specialist_kl(student, torch.ones(count, 2), [(0, 1)], 4.0, asked)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.equal(torch.zeros(count, 3))


@pytest.mark.parametrize(
    ("student", "teacher", "on"),
    [((4, 3), (1, 2), 4), ((4, 3), (4, 2), 1), ((4, 3), (4,), 4), ((4,), (4, 2), 4), ((4, 3), (5, 2), 5)],
    ids=str,
)
def test_a_specialist_of_other_boxes_is_refused(student: tuple[int, ...], teacher: tuple[int, ...], on: int):
    asked = torch.ones(on, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"want \(N, C\) and \(N, D\) logits"):
        specialist_kl(torch.zeros(student), torch.zeros(teacher), [(0, 0)], 2.0, asked)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("groups", [[0, 0, 0], [1, 1, 1], [0, 1, 2], [0, 1, -1], [0, 1], [0, 1, 1, 1]], ids=str)
def test_groups_that_do_not_fill_the_targets_are_refused_and_named(groups: list[int]):
    with pytest.raises(ValueError, match="want a group of 0 to 1 for each of 3 classes, none of them bare") as error:
        soft_kl(torch.zeros(4, 3), torch.zeros(4, 2), 2.0, groups)
    assert str(groups) in str(error.value)
