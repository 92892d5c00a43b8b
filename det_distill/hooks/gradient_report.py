"""Why a distilled student is worse than its baseline: what each term pulls, beside what the task pulls."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from det_distill.hooks.unwrap import unwrapped
from det_distill.refusals import at_least, choice

TAPS = ("backbone", "neck")  # a dotted path is recorded as a copy, which no loss flows through
FAINT, LOUD = 0.1, 1.0  # ratios below which a term hardly teaches and above which it outshouts the ground truth


def pull(loss: Tensor, maps: Sequence[Tensor]) -> float:
    """Norm of the gradient of a loss on all maps together; the graph is kept, no `.grad` is written."""
    if not loss.requires_grad or not maps:
        return 0.0
    grads = torch.autograd.grad(loss, maps, retain_graph=True, allow_unused=True)
    return sum(float(grad.double().square().sum()) for grad in grads if grad is not None) ** 0.5


def _sum(value: Any) -> Tensor:
    """One log entry as MMEngine sums it up: a tensor's mean, a list's sum of means."""
    parts = value if isinstance(value, list | tuple) else [value]
    return torch.stack([one.mean() for one in parts]).sum()


@HOOKS.register_module()
class GradientReportHook(Hook):
    """Every `interval` steps, per term: its value, its share of the total loss and its gradient-norm ratio to the task.

    The ratio is of gradient norms on one tensor that every loss flows through, so it says who decides where the
    shared layers go. Far below 0.1 a term hardly teaches; above 1 it outshouts the ground truth. The suggested strength
    (weight times schedule) is the one at which the ratio would be `target`; a term without a gradient in that step gets
    none. Training itself is unchanged, to the bit.

    Args:
        interval: Steps between reports; each costs one backward pass from every term to the tap. 0 reports nothing.
        tap: "backbone" or "neck", whichever lies before all terms and heads.
        target: The ratio that the suggested strength aims at.

    Raises:
        ValueError: No such tap, or a negative number.
    """

    priority = "NORMAL"

    def __init__(self, interval: int = 0, tap: str = "backbone", target: float = 0.3) -> None:
        self.every, self.tap = int(at_least("interval", interval, 0)), choice("GradientReportHook.tap", tap, TAPS)
        self.target = at_least("target", target, 1e-6)
        self._rows: dict[str, dict[str, float]] = {}
        self._staged = False

    def before_train(self, runner: Runner) -> None:
        unwrapped(runner).view.stage(self.tap)  # that there is no neck is known before the first step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        due = self.every > 0 and runner.iter % self.every == 0
        self._staged = bool(unwrapped(runner).stages.all)
        unwrapped(runner).audit = (self.tap, self._audit) if due else None

    def _audit(self, losses: Mapping[str, Any], strengths: Mapping[str, float], seen: Mapping[str, Any]) -> None:
        maps = [one for one in seen.get(self.tap, ()) if one.requires_grad]
        if not maps and not self._staged:  # in one stage what lies before the tap may rest
            raise ValueError(
                f"GradientReportHook.tap='{self.tap}' has no gradient; name the one of {TAPS} behind layers that learn"
            )
        values = {key: _sum(value) for key, value in losses.items() if "loss" in key}
        total = torch.stack(list(values.values())).sum()
        mine = {name: [key for key in values if key.split(".")[0] == f"loss_{name}"] for name in strengths}
        terms = [key for keys in mine.values() for key in keys]
        others = [value for key, value in values.items() if key not in terms]
        task = pull(torch.stack(others).sum(), maps) if others else 0.0
        self._rows = {}
        for name, keys in mine.items():
            value = torch.stack([values[key] for key in keys]).sum()
            pulled, share = pull(value, maps), value.item() / (total.item() or 1.0)
            row = dict(value=value.item(), share=share, strength=strengths[name])
            if pulled and task:
                row |= dict(grad_ratio=pulled / task, suggested=strengths[name] * self.target * task / pulled)
            else:
                row |= dict(grad_ratio=inf if pulled else 0.0)
            self._rows[name] = row

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        unwrapped(runner).audit = None
        for name, row in self._rows.items():
            for key, value in row.items():
                runner.message_hub.update_scalar(f"distill/{name}.{key}", value)
            runner.logger.info(f"distill [{runner.iter + 1}] {name}: {self._line(row)}")
        self._rows = {}

    def _line(self, row: Mapping[str, float]) -> str:
        if "suggested" not in row:
            who = "the task" if row["grad_ratio"] else "it"
            return f"{who} has no gradient on '{self.tap}' in this step; strength {row['strength']:.3g}"
        ratio = row["grad_ratio"]
        return (
            f"pulls '{self.tap}' {ratio:.3g} times as hard as the task ({_verdict(ratio)}); value {row['value']:.4g}, "
            f"{row['share']:.1%} of the loss; strength {row['strength']:.3g}, {row['suggested']:.3g} would make it "
            f"{self.target:g} times"
        )


def _verdict(ratio: float) -> str:
    if ratio > LOUD:
        return "it outshouts the ground truth"
    return "it hardly teaches" if ratio < FAINT else "a fair say"
