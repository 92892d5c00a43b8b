"""Fit a student that begins as a part of its teacher to that teacher, before the first step."""

from collections.abc import Iterable
from time import perf_counter
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from det_distill.distiller import Distiller
from det_distill.hooks.unwrap import unwrapped
from det_distill.inheritance.reconstruction import Look, look_of, reconstruct
from det_distill.randomness import untouched
from det_distill.teachers.teacher import Teacher


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Does what `init_cfg=dict(type="WeightSelection", reconstruct=dict(...))` asks for; nothing without.

    A run that is resumed was fitted when it began. No random number of the run's is drawn. Of several processes each
    fits, and all begin with the first one's weights.

    Raises:
        ValueError: Before the first step: `load_from` brings weights already, the student sees its images at another
            scale, or a layer cannot be fitted, which is named.
    """

    priority = "NORMAL"

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner)
        model.reconstructs = True
        selection = model.inherit
        if selection is None or selection.reconstruct is None or runner.iter:
            return
        how, teacher = selection.reconstruct, selection.source(model.teachers)
        if runner._load_from:
            raise ValueError(
                f"load_from={runner._load_from!r} holds the student's weights, and init_cfg.reconstruct would "
                "overwrite them: leave one of them out"
            )
        if model.shrink.scale != 1:
            raise ValueError(
                f"init_cfg.reconstruct: the student sees its images at scale {model.shrink.scale:g}, so its layers' "
                "cells are not its teacher's; leave reconstruct out"
            )
        inherited = selection.origins(model.student, model.teachers)
        own, its = model.view, teacher.view
        origins = {path: one for path, one in inherited.items() if own.follows(path) and its.follows(one.path)}
        begin = perf_counter()
        with untouched():
            done = reconstruct(how, model.view, teacher, origins, _looks(runner, model, teacher, how.images, origins))
        for weights in model.student.parameters():
            broadcast(weights.data)
        before, after = (sum(one[side] for one in done.values()) / max(1, len(done)) for side in (0, 1))
        runner.logger.info(
            f"reconstruction: {len(done)} layers fitted on {how.images} images; of what they should give {before:.0%} "
            f"of the variance was unexplained, {after:.0%} is; {perf_counter() - begin:.0f} s"
        )


def _looks(runner: Runner, model: Distiller, teacher: Teacher, images: int, paths: Iterable[str]) -> list[Look]:
    """Training images, evenly spread over the split, in batches as large as the run's."""
    loader = runner.train_dataloader
    count, rois = len(loader.dataset), any(model.view.stage(path) == "roi" for path in paths)
    chosen = [index * count // images for index in range(images)] if count > images else range(count)
    size = loader.batch_sampler.batch_size
    looks = []
    for data in DataLoader(Subset(loader.dataset, list(chosen)), size, collate_fn=loader.collate_fn):
        batch: dict[str, Any] = model.data_preprocessor(data, training=True)
        looks.append(look_of(teacher, batch["inputs"], batch["data_samples"], rois))
    return looks
