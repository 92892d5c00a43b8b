"""What the hooks of a distillation run work on."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from det_distill.distiller import Distiller


def unwrapped(runner: Runner) -> Distiller:
    """The Distiller of a run.

    Raises:
        ValueError: The model is another.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, Distiller):
        raise ValueError(f"a hook of distillation runs expects a Distiller, but the model is a {type(model).__name__}")
    return model
