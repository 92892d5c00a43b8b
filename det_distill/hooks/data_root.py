"""No step with images from outside the folders that the config names."""

from collections.abc import Iterator
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from det_distill.datasets.inside import demand_inside


@HOOKS.register_module()
class DataRootHook(Hook):
    """Stops a run before its first step if an annotation file names an image outside `data_root` and `data_prefix`.

    Stock data sets join whatever a file of a stranger's says to their folder, "../../secret.png" too.

    Raises:
        ValueError: In training; names the annotation file, the image and the folders.
    """

    priority = "NORMAL"

    def before_train(self, runner: Runner) -> None:
        loops = [runner.train_loop, *([runner.val_loop] if runner.val_loop is not None else [])]
        for loop in loops:
            for dataset in _inner(loop.dataloader.dataset):
                demand_inside(dataset)


def _inner(dataset: Any) -> Iterator[Any]:
    """The data sets with files of their own below MMEngine's wrappers."""
    if hasattr(dataset, "data_prefix"):
        yield dataset
        return
    for one in [dataset.dataset] if hasattr(dataset, "dataset") else getattr(dataset, "datasets", []):
        yield from _inner(one)
