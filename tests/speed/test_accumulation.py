"""Gradients of several small batches make one step: their mean, judged by a plain loop."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

import tiny

RATE = 0.02


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    teacher = tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))
    terms = dict(imitation=tiny.imitation(), soft=dict(type="WeightedSoftLabels", head="roi", weight=0.5))
    return tiny.distiller(tiny.faster_rcnn(), teacher, terms=terms)


def built(model: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(model)).train()


def gradients(model: nn.Module, seed: int) -> list[Tensor]:
    """Of one small batch on its own, zeros where it has none."""
    weights = list(model.parameters())
    loss, _ = model.parse_losses(tiny.losses(model, tiny.batch(seed=seed), seed))
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def test_two_small_batches_step_along_the_mean_of_their_gradients(model: dict[str, Any]):
    one, other = built(model), built(model)
    start = [weight.detach().clone() for weight in one.parameters()]
    optimiser = OptimWrapper(torch.optim.SGD(one.parameters(), lr=RATE), accumulative_counts=2)
    for seed in (0, 1):
        assert all(torch.equal(w, s) for w, s in zip(one.parameters(), start, strict=True))  # no step after the first
        torch.manual_seed(seed)
        one.train_step(tiny.batch(seed=seed), optimiser)

    means = [(first + second) / 2 for first, second in zip(gradients(other, 0), gradients(other, 1), strict=True)]
    assert sum(bool(mean.any()) for mean in means) > 50  # the student's, and the adapters'
    for weight, begun, mean in zip(one.parameters(), start, means, strict=True):
        torch.testing.assert_close(weight, begun - RATE * mean, rtol=1e-5, atol=1e-7)
    assert all(weight.grad is None or not weight.grad.any() for weight in one.parameters())


class Diary(Hook):
    """Every step's batch and random stream, and the weights before the first."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.steps: list[tuple[Any, Tensor]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.steps:
            self.start = copy.deepcopy(runner.model.state_dict())
            self.terms = copy.deepcopy(runner.model.terms.state_dict())
        self.steps.append((copy.deepcopy(data_batch), torch.get_rng_state()))


@pytest.mark.parametrize(("count", "windows"), [(2, [2, 1]), (3, [3])])
def test_a_run_is_the_plain_loop_and_its_last_step_counts_what_is_left(tmp_path: Path, model, count, windows):
    """Three batches: of a window of two, the last holds one and steps by its gradient alone."""
    data = tiny.write_dataset(tmp_path / "set", images=6)
    cfg = tiny.run_config(data, tmp_path / "run", model, train_cfg=dict(max_epochs=1, val_begin=9))
    cfg.merge_from_dict(dict(optim_wrapper=dict(accumulative_counts=count, optimizer=dict(lr=RATE))))
    runner, diary = Runner.from_cfg(cfg), Diary()
    runner.register_hook(diary)
    runner.train()

    mine = built(model)
    mine.saves_adapters = True  # so that it does not ask for a Runner's hooks
    mine.load_state_dict(diary.start)
    mine.terms.load_state_dict(diary.terms)
    optimiser = torch.optim.SGD(mine.parameters(), lr=RATE, momentum=0.9)
    pages = iter(diary.steps)
    for window in windows:
        optimiser.zero_grad()
        for _ in range(window):
            data_batch, stream = next(pages)
            torch.set_rng_state(stream)
            loss, _ = mine.parse_losses(mine(**mine.data_preprocessor(data_batch, training=True), mode="loss"))
            (loss / window).backward()
        optimiser.step()
    assert next(pages, None) is None
    for (name, value), own in zip(runner.model.named_parameters(), mine.parameters(), strict=True):
        assert torch.equal(value, own), name
