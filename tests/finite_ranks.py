"""What one of two processes does: a short run in which only rank 1 meets a loss that is nan; the story in a file."""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import tiny
from det_distill.launch import join

FAULTY = 3  # step


class Story(Hook):
    """The images of each step and a weight before it; rank 1's imitation is nan once."""

    def __init__(self) -> None:
        self.images: dict[int, list[str]] = {}
        self.starts: list[torch.Tensor] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        model, step = runner.model.module, runner.iter + 1
        self.images[step] = [f"{one.img_id} ({one.img_path})" for one in data_batch["data_samples"]]
        self.starts.append(model.student.backbone.conv1.weight.detach().clone())
        self.inner, self.began = model.terms["imitation"].forward, perf_counter()
        if dist.get_rank() == 1 and step == FAULTY:
            model.terms["imitation"].forward = lambda *args: self.inner(*args) * float("nan")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        runner.model.module.terms["imitation"].forward = self.inner


def main(folder: Path, action: str) -> None:
    teacher = dict(config=str(folder / "teacher.py"), checkpoint=str(folder / "teacher.pth"))
    cfg = tiny.run_config(folder / "data", folder / "run", tiny.distiller(tiny.faster_rcnn(), teacher))
    cfg.merge_from_dict(
        dict(
            launcher="pytorch",
            train_cfg=dict(_delete_=True, type="IterBasedTrainLoop", max_iters=6, val_interval=100),
            train_dataloader=dict(sampler=dict(type="InfiniteSampler", shuffle=True)),
            default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=100, by_epoch=False)),
            log_processor=dict(by_epoch=False),
            optim_wrapper=dict(optimizer=dict(weight_decay=0.1)),
            experiment_name="two ranks",
        )
    )
    cfg.custom_hooks.append(dict(type="FiniteLossesHook", action=action))
    join(cfg)
    with DefaultScope.overwrite_default_scope("mmdet"):
        runner, story, error = Runner.from_cfg(cfg), Story(), ""
        runner.register_hook(story)
        try:
            runner.train()
        except FloatingPointError as stopped:
            error = str(stopped)
    found = dict(
        error=error,
        waited=perf_counter() - story.began,
        images=story.images,
        starts=story.starts,
        weights=dict(runner.model.module.state_dict()),
    )
    torch.save(found, folder / f"rank{dist.get_rank()}.pth")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
