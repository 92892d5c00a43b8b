"""A training step that ends after its forward pass: what that changed is put back, and no weight moves."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from det_distill.distiller import Distiller
from det_distill.randomness import capture, restore


class Before:
    """What a training forward pass changes, as it was: norm statistics, the terms' own state, random streams."""

    def __init__(self, model: Distiller) -> None:
        self.buffers = [one.clone() for one in model.student.buffers()]
        learning = {name for name, one in model.terms.named_parameters() if one.requires_grad}  # by the optimiser alone
        state = model.terms.state_dict()  # a critic's optimiser too
        self.terms = deepcopy({name: one for name, one in state.items() if name not in learning})
        self.streams = capture()

    def put_back(self, model: Distiller) -> None:
        for one, kept in zip(model.student.buffers(), self.buffers, strict=True):
            one.copy_(kept)
        model.terms.load_state_dict(self.terms, strict=False)
        restore(self.streams)


class Idle:
    """A step that adds nothing to the gradients and, where there are none, moves no weight.

    `loss` is a zero that depends on every weight the faulty one did, so that `DistributedDataParallel` and `GradScaler`
    see a step like any other; the optimiser passes over weights without a gradient.
    """

    def __init__(self, total: Tensor, optimizer: torch.optim.Optimizer) -> None:
        weights = leaves(total)
        self.loss = sum((0 * one.flatten()[:1].sum() for one in weights), total.new_zeros(()))
        self.bare = [one for one in weights if one.grad is None]
        self.handle = optimizer.register_step_pre_hook(lambda *_: self.strip())

    def strip(self) -> None:
        for one in self.bare:
            one.grad = None

    def end(self) -> None:
        self.strip()
        self.handle.remove()


def leaves(total: Tensor) -> list[Tensor]:
    """The weights that a backward pass from here reaches."""
    found, seen, left = [], set(), [total.grad_fn]
    while left:
        node: Any = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found += [node.variable] if hasattr(node, "variable") else []
            left += [one for one, _ in node.next_functions]
    return found
