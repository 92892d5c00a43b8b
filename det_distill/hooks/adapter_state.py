"""Save adapters beside the student's weights, and find them again on resume."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from det_distill.hooks.unwrap import unwrapped

KEY = "distill"


@HOOKS.register_module()
class AdapterStateHook(Hook):
    """Keeps the terms' weights in the checkpoint's own entry `distill`, out of the student's `state_dict`.

    Why an entry of its own: a stock tool that loads the checkpoint into the plain student must find neither
    a missing nor an unexpected weight.
    """

    priority = "NORMAL"

    def before_train(self, runner: Runner) -> None:
        unwrapped(runner).saves_adapters = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = {"terms": unwrapped(runner).terms.state_dict()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Load what was saved; a resumed run without it would go on with untrained adapters."""
        if not runner._resume:
            return
        terms = unwrapped(runner).terms
        if KEY in checkpoint:
            terms.load_state_dict(checkpoint[KEY]["terms"])
        elif terms.state_dict():
            raise ValueError(
                f"the checkpoint to resume from has no entry '{KEY}', so it was not written by a distillation run; "
                "name it in load_from to start from its weights"
            )
