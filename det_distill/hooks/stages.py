"""Lead a run through its stages: what teaches and learns, with which optimiser and schedule."""

import gc
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from det_distill.hooks.loop import by_epoch
from det_distill.hooks.unwrap import unwrapped
from det_distill.refusals import blamed

KEY = "stage"


@HOOKS.register_module()
class StagesHook(Hook):
    """Enters each stage of `model.stages` when its time comes; does nothing without stages.

    A stage with an optimiser or a schedule of its own starts with both fresh. Stages without go on with the run's,
    fresh where a stage before had its own. Their steps count from there, gradient accumulation's too, and a schedule
    without `end` ends with them, so that a run of two stages is two runs in a row.

    A checkpoint holds the optimiser of the stage that wrote it, and that stage's index: the next stage may have begun
    by the time it is resumed.

    Raises:
        ValueError: Before the first step: the stages do not fill the run, or an optimiser or schedule cannot be built.
    """

    priority = "HIGHEST"  # before RuntimeInfoHook reads the learning rate

    def __init__(self) -> None:
        self._index: int | None = None
        self._leg: tuple[int, int] | None = None  # the stages whose optimiser the Runner holds

    def before_train(self, runner: Runner) -> None:
        stages = unwrapped(runner).stages
        if not stages.all:
            return
        stages.fill(_total(runner), "epochs" if by_epoch(runner) else "iterations")
        kept = runner.optim_wrapper, runner.param_schedulers
        for leg in sorted({stages.leg(index) for index in range(len(stages.all))}):
            self._build(runner, leg)  # what cannot be built shall not wait for its stage to say so
        runner.optim_wrapper, runner.param_schedulers = kept

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        stages = unwrapped(runner).stages
        if not stages.all:
            return
        index = stages.at(runner.epoch if by_epoch(runner) else runner.iter)
        if index == self._index:
            return
        leg = stages.leg(index)
        begins = leg != self._leg
        if begins:
            stages.enter(None)  # an optimiser knows every weight of its leg, whichever learns now
            self._build(runner, leg)
        stages.enter(index)
        if runner.distributed:
            _wrap_again(runner)
        if begins or self._index is None:  # MMEngine counts from the run's start
            begin, end = (_steps(runner, at) for at in _span(runner, leg))
            runner.optim_wrapper.initialize_count_status(runner.model, runner.iter - begin, end - begin)
        self._leg, self._index = leg, index
        rates = sorted({f"{rate:.3g}" for rate in runner.optim_wrapper.get_lr()["lr"]}, key=float)
        verb = "begins" if runner.iter == _steps(runner, stages.begin(index) or 0) else "goes on"
        runner.logger.info(f"stage {index} {verb}: {stages.now}; lr {', '.join(rates)}")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if self._index is not None:
            checkpoint[KEY] = self._index

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Have the optimiser in place whose state the Runner is about to load."""
        if not runner._resume:
            return
        stages = unwrapped(runner).stages
        found = checkpoint.get(KEY)
        if (found is None and stages.all) or (found is not None and found >= len(stages.all)):
            wrote = "a run without stages" if found is None else f"stage {found} of a run"
            raise ValueError(
                f"the checkpoint to resume from was written by {wrote}, but the config has {len(stages.all)} stages; "
                "name it in load_from to start from its weights"
            )
        if found is not None:
            self._leg = stages.leg(found)
            self._build(runner, self._leg)

    def _build(self, runner: Runner, leg: tuple[int, int]) -> None:
        """Give the Runner a fresh optimiser and fresh schedulers of a leg."""
        stages = unwrapped(runner).stages
        if not any(stage.own for stage in stages.all):
            return  # the Runner's are right from start to end
        stage, cfg = stages.all[leg[0]], runner.cfg
        with blamed(f"stages.{leg[0]}.optim_wrapper"):
            merged = Config(dict(optim_wrapper=deepcopy(cfg.optim_wrapper)))
            merged.merge_from_dict(dict(optim_wrapper=deepcopy(dict(stage.optim_wrapper or {}))))
            runner.param_schedulers = None  # before them the rate is scaled, as in Runner.train
            runner.optim_wrapper = runner.build_optim_wrapper(merged.optim_wrapper)
            runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
        schedule = cfg.get("param_scheduler") if stage.param_scheduler is None else stage.param_scheduler
        if schedule is not None:
            with blamed(f"stages.{leg[0]}.param_scheduler"):
                runner.param_schedulers = runner.build_param_scheduler(_ending(runner, schedule, leg))


def _wrap_again(runner: Runner) -> None:
    """A new `DistributedDataParallel`: one waits for ever for those weights that learnt when it was made."""
    model = runner.model.module
    runner.model = None
    gc.collect()  # the old one's hooks on gradients go with it
    runner.model = runner.wrap_model(runner.cfg.get("model_wrapper_cfg"), model)


def _total(runner: Runner) -> int:
    return int(runner.max_epochs if by_epoch(runner) else runner.max_iters)


def _span(runner: Runner, leg: tuple[int, int]) -> tuple[int, int]:
    """Where a leg begins and ends, in the unit of the train loop."""
    stages = unwrapped(runner).stages
    return stages.begin(leg[0]) or 0, stages.all[leg[1]].until or _total(runner)


def _steps(runner: Runner, count: int) -> int:
    return count * len(runner.train_dataloader) if by_epoch(runner) else count


def _ending(runner: Runner, schedule: Any, leg: tuple[int, int]) -> list[dict[str, Any]]:
    """Schedulers that end with the leg where they do not say; MMEngine would let them end with the run."""
    begin, end = _span(runner, leg)
    lengths = {False: _steps(runner, end) - _steps(runner, begin)} | ({True: end - begin} if by_epoch(runner) else {})
    found: list[dict[str, Any]] = [dict(one) for one in ([schedule] if isinstance(schedule, Mapping) else schedule)]
    for one in found:
        if one.get("by_epoch", True) in lengths:
            one.setdefault("end", lengths[one.get("by_epoch", True)])
    return found
