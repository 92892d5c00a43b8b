"""What the hooks of a distillation run work on."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel

from det_distill.distiller import Distiller


def unwrapped(runner: Runner) -> Distiller:
    """The Distiller of a run.

    Raises:
        ValueError: The model is another, or is sharded: terms run parts of a net, such as its RoI head, by themselves,
            where FSDP has not gathered their weights.
    """
    if isinstance(runner.model, FullyShardedDataParallel):
        raise ValueError(
            "a Distiller cannot be sharded by FSDP, for its terms run parts of the student by themselves; use "
            "MMDistributedDataParallel, MMEngine's default"
        )
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, Distiller):
        raise ValueError(f"a hook of distillation runs expects a Distiller, but the model is a {type(model).__name__}")
    return model
