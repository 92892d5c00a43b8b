"""Boundary samples as a term: RoI features moved to the teacher's boundary, the student's by the translated shift."""

from collections.abc import Callable
from math import exp, log
from typing import Any

import pytest
import torch
from shown import NOTHING
from torch import Tensor, nn

from det_distill.terms.response.boundary import BoundarySamples
from det_distill.views.anatomy import Anatomy

OWN_CHANNELS, ITS_CHANNELS, CLASSES = 2, 3, 4


def head(channels: int, seed: int) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(seed)
    linear = nn.Linear(channels * 4, CLASSES).requires_grad_(False)
    return lambda features: linear(features.flatten(1))


STUDENT, TEACHER = head(OWN_CHANNELS, 0), head(ITS_CHANNELS, 1)


def anatomy(side: str, channels: int, classify: Any, size: int = 2, classes: int = CLASSES) -> Anatomy:
    shows = {"roi.features": (channels, size, size), "roi.logits": (classes,)}
    return Anatomy(side, shows, classify=classify)


def wired(judge: Any = TEACHER, channels: int = ITS_CHANNELS, **config: Any) -> BoundarySamples:
    torch.manual_seed(2)
    term = BoundarySamples(weight=1, **config)
    term.wire(anatomy("student", OWN_CHANNELS, STUDENT), anatomy("teacher", channels, judge))
    return term


def seen(count: int = 40, channels: int = ITS_CHANNELS, judge: Any = TEACHER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Boxes of which those are labelled right that both nets take for the same class."""
    g = torch.Generator().manual_seed(3)
    own = torch.randn(count, OWN_CHANNELS, 2, 2, generator=g).requires_grad_()
    its = torch.randn(count, channels, 2, 2, generator=g)
    labels = judge(its).argmax(dim=1)
    student = {"roi.features": own, "roi.logits": STUDENT(own), "roi.targets": (labels,)}
    return student, {"roi.features": its, "roi.logits": judge(its)}


def test_features_that_were_moved_cross_the_teacher_s_boundary():
    judged: list[Tensor] = []

    def watched(features: Tensor) -> Tensor:
        judged.append(features.detach().clone())
        return TEACHER(features)

    student, teacher = seen()
    base = (student["roi.logits"].argmax(dim=1) == student["roi.targets"][0]).nonzero()[:, 0]
    assert len(base) > 4
    wired(watched, steps=100)(student, teacher, NOTHING)
    before, after = judged[0], judged[-1]
    assert sorted(before.flatten(1).tolist()) == sorted(teacher["roi.features"][base].flatten(1).tolist())
    assert (TEACHER(before).argmax(dim=1) != TEACHER(after).argmax(dim=1)).all()


def divergence(student: list[float], teacher: list[float], temperature: float) -> float:
    sides = []
    for logits in (teacher, student):
        powers = [exp(z / temperature) for z in logits]
        sides.append([one / sum(powers) for one in powers])
    return sum(t * log(t / s) for t, s in zip(*sides, strict=True))


@pytest.mark.parametrize("translated", [True, False])
def test_both_parts_box_by_box(translated: bool):
    judge, channels = (TEACHER, ITS_CHANNELS) if translated else (head(OWN_CHANNELS, 1), OWN_CHANNELS)
    judged: list[Tensor] = []

    def watched(features: Tensor) -> Tensor:
        judged.append(features.detach().clone())
        return judge(features)

    student, teacher = seen(channels=channels, judge=judge)
    term = wired(watched, channels, **({} if translated else dict(adapter=None)))
    found = term(student, teacher, NOTHING)
    total, fit, boxes = 0.0, 0.0, judged[0]
    for start, moved in zip(boxes, judged[-1], strict=True):
        place = next(i for i, one in enumerate(teacher["roi.features"]) if one.equal(start))
        own = student["roi.features"][place].detach()
        plain, shifted = (term.translator(one[None])[0].detach() for one in (start, moved))
        logits = [STUDENT((own + shifted - plain)[None])[0].tolist(), judge(moved[None])[0].tolist()]
        total += divergence(*logits, temperature=3.0)  # and no factor of 9
        fit += (plain - own).square().mean().item()
    assert found["boundary"].item() == pytest.approx(total / len(boxes), rel=1e-4)
    assert list(found) == (["boundary", "translator"] if translated else ["boundary"])
    if translated:
        assert found["translator"].item() == pytest.approx(fit / len(boxes), rel=1e-4)


def test_the_translator_learns_by_its_own_part_alone_and_the_student_by_the_other():
    student, teacher = seen()
    term = wired()
    found, weight, own = term(student, teacher, NOTHING), term.translator.conv.weight, student["roi.features"]
    for part, reached in (("boundary", [False, True]), ("translator", [True, False])):
        grads = torch.autograd.grad(found[part], [weight, own], allow_unused=True, retain_graph=True)
        assert [grad is not None and bool(grad.any()) for grad in grads] == reached


@pytest.mark.parametrize("count", [0, 5])
def test_without_a_base_sample_both_parts_are_a_zero_that_trains(count: int):
    student, teacher = seen(count)
    student["roi.targets"] = ((student["roi.targets"][0] + 1) % CLASSES,)  # the teacher is wrong everywhere
    found = wired()(student, teacher, NOTHING)
    assert {part: value.item() for part, value in found.items()} == dict(boundary=0, translator=0)
    sum(found.values()).backward()
    assert student["roi.features"].grad.equal(torch.zeros_like(student["roi.features"]))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (dict(classes=5), r"'roi.logits' has shape \(4,\) on the student and \(5,\) on the teacher"),
        (dict(size=3), r"'roi.features' has shape \(N, \*\(2, 2, 2\)\) on the student and \(N, \*\(3, 3, 3\)\) on"),
    ],
)
def test_other_classes_and_other_crops_are_refused(other: dict[str, int], said: str):
    with pytest.raises(ValueError, match=said):
        BoundarySamples(weight=1).wire(anatomy("student", 2, STUDENT), anatomy("teacher", 3, TEACHER, **other))
