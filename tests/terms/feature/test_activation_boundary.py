"""Activation boundaries as a term: the deepest level counts 1, the next 1/2, then 1/4."""

import pytest
from shown import NOTHING, maps, specs, wired
from torch import Tensor

from det_distill.terms.feature.activation_boundary import ActivationBoundary

TAP = "backbone.preactivation"


def neuron_by_neuron(student: Tensor, teacher: Tensor, margin: float) -> float:
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
        elif t > 0 and s <= margin:
            total += (s - margin) ** 2
    return total / len(student)


def test_levels_weigh_half_as_much_as_the_next_deeper():
    own, its, shows = maps(3, 8, 16, 32), maps(3, 8, 16, 32, seed=1), {TAP: specs(3, 8, 16, 32)}
    fine, middle, deep = (neuron_by_neuron(*pair, 0.5) for pair in zip(own, its, strict=True))
    term = wired(ActivationBoundary(weight=1, margin=0.5, adapter=None), shows, shows)
    value = term({TAP: own}, {TAP: its}, NOTHING)
    assert value.item() == pytest.approx(fine / 4 + middle / 2 + deep, rel=1e-5)
    assert term({TAP: own}, {TAP: [9 * one for one in its]}, NOTHING).equal(value)  # only signs count


def test_the_connector_is_a_convolution_without_bias_and_a_norm():
    term = wired(ActivationBoundary(weight=1), {TAP: specs(3, 8)}, {TAP: specs(5, 8)})
    conv = term.adapters[0].conv
    assert (tuple(conv.weight.shape), conv.bias) == ((5, 3, 1, 1), None)
    term({TAP: maps(3, 8)}, {TAP: maps(5, 8, seed=1)}, NOTHING).backward()
    assert conv.weight.grad.any()
    assert term.adapters[0].norm.weight.grad.any()
