"""A step whose losses are not finite is not taken: the run stops and says why, or leaves that batch out.

Why between forward and backward pass: afterwards the weights are what the fault made of them, and a checkpoint of them
is worth nothing.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce, barrier, get_dist_info, is_main_process
from mmengine.fileio import put_text
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from det_distill.distiller import Distiller
from det_distill.hooks import fault_report
from det_distill.hooks.loop import by_epoch
from det_distill.hooks.untaken import Before, Idle
from det_distill.hooks.unwrap import unwrapped
from det_distill.refusals import at_least, choice


@HOOKS.register_module()
class FiniteLossesHook(Hook):
    """Acts before the optimiser does where a loss, a part of one, their sum or another logged value is nan or inf.

    The model is put back to what it was before the step's forward pass: norm statistics, the terms' own state (a
    critic, a survey of neurons) and random streams. Of several ranks all stop, or skip, where one has a fault.

    "stop" saves that state as `stopped_iter_<steps taken>.pth` and raises. In iteration-based runs `last_checkpoint`
    then names it, and --resume continues as if never interrupted. Epoch-based runs cannot begin inside an epoch: from
    that file they repeat the epoch with the weights reached, while schedules of steps go on; so `last_checkpoint` stays
    with the last regular one, if any, which is exact. Gradients accumulated so far are in no checkpoint of MMEngine's.

    "skip" changes no weight in such a step, by momentum and weight decay neither; of accumulated steps the others
    count. The data and the schedules go on, and `skipped_steps` is logged. Half precision overflows now and then: a
    run with --amp that meets inf may want this.

    Args:
        action: "stop" or "skip".
        limit: How many steps in a row "skip" may leave out; the next stops the run.

    Raises:
        FloatingPointError: In training, by "stop" or beyond `limit`; or, instead of a checkpoint, where a weight or a
            norm's statistics are not finite.
        ValueError: An unknown action, or a limit below 1.
    """

    priority = "LOWEST"  # the random streams are then those that the step finds, right after a resume too

    def __init__(self, action: str = "stop", limit: int = 10) -> None:
        self.action = choice("FiniteLossesHook.action", action, ("stop", "skip"))
        self.limit = int(at_least("FiniteLossesHook.limit", limit, 1))
        self._in_a_row = 0
        self._idle: Idle | None = None
        self._last: str | None = None  # the last regular checkpoint

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        model = unwrapped(runner)
        self._last = runner.message_hub.runtime_info.get("last_ckpt")
        model.guard = partial(self._judge, runner, batch_idx, data_batch, Before(model))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        unwrapped(runner).guard = None
        if self._idle:
            self._idle.end()
            self._idle = None

    def after_train(self, runner: Runner) -> None:
        if self.action == "skip":
            runner.logger.info(
                f"{fault_report.skipped_steps(runner)} of {runner.iter} steps were skipped, for losses were not finite"
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        found = unsound(unwrapped(runner))
        if found:
            raise FloatingPointError(
                f"{found} is not finite, so no checkpoint was written; {fault_report.go_back(self._last)}"
            )

    def _judge(
        self, runner: Runner, index: int, data: Any, before: Before, total: Tensor, told: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values = torch.stack([one.detach().to(total) for one in told.values()])
        ranks = ranks_where(~values.isfinite().all())  # the only wait for the device
        if not ranks:
            self._in_a_row = 0
            return total, told
        model = unwrapped(runner)
        moved = unsound(model)
        before.put_back(model)
        rotten = unsound(model)
        rotten_ranks = ranks_where(torch.tensor(rotten is not None, device=total.device))
        fault = f"{fault_report.step(runner, index)}: {fault_report.fault(model, told, data, ranks)}"
        if moved and not rotten:
            fault += f"; {moved} was not finite either and is as before again"
        if self.action == "skip" and not rotten_ranks and self._in_a_row < self.limit:
            self._in_a_row += 1
            runner.message_hub.update_scalar(fault_report.SKIPPED, fault_report.skipped_steps(runner) + 1)
            runner.logger.warning(f"{fault}; skipped, {self._in_a_row} in a row")
            self._idle = Idle(total, runner.optim_wrapper.optimizer)
            return self._idle.loss, {}
        model.guard = None
        if self._in_a_row:
            fault += f", after {self._in_a_row} skipped in a row"
        if rotten_ranks:
            what = rotten or f"a weight of rank {rotten_ranks[0]}"
            raise FloatingPointError(
                f"{fault}. Nothing was saved: {what} was not finite even before; {fault_report.go_back(self._last)}"
            )
        advice = f"{fault_report.remedy(model, told)} or FiniteLossesHook(action='skip') may help"
        raise FloatingPointError(f"{fault}. The step was not taken. {_saved(runner, index, self._last)}; {advice}")


def ranks_where(own: Tensor) -> list[int]:
    """The ranks on which a flag is up, known to all of them."""
    rank, ranks = get_dist_info()
    flags = own.new_zeros(ranks, dtype=torch.int32)
    flags[rank] = own
    all_reduce(flags, op="max")
    return [one for one, up in enumerate(flags.tolist()) if up]


def unsound(model: Distiller) -> str | None:
    """The first of the norm layers' statistics, or else weight, that is not finite."""
    statistics = {name: one for name, one in model.named_buffers() if name.endswith(("running_mean", "running_var"))}
    named = {**statistics, **dict(model.named_parameters())}
    finite = torch.stack([one.detach().isfinite().all() for one in named.values()]).tolist()
    return next((name for name, fine in zip(named, finite, strict=True) if not fine), None)


def _saved(runner: Runner, index: int, last: str | None) -> str:
    """Save the state before the step, by rank 0 while the others wait, and tell how to go on."""
    name, epochs = f"stopped_iter_{runner.iter}.pth", by_epoch(runner)
    file = Path(runner.work_dir, name)
    try:
        begin = runner.iter - (index if epochs else 0)
        runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=begin), by_epoch=epochs)
        if is_main_process() and not (epochs and last):
            put_text(str(file), Path(runner.work_dir, "last_checkpoint"))
    finally:
        barrier()  # a launcher ends every rank as soon as one has ended
    if not epochs:
        return f"{file} holds the state before it, and --resume continues exactly there"
    repeat = f"repeats epoch {runner.epoch + 1} with the weights reached"
    if not last:
        return f"{file} holds the state before it, and --resume {repeat}"
    return f"{file} holds the state before it: --resume {file} {repeat}, --resume goes back to {last}"
