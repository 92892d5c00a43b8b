"""What only a hook can do in a Runner and none does is said at the first step, not after the last."""

from typing import Any

from mmengine.logging import MessageHub


def demand_hooks(distiller: Any) -> None:
    """Outside a Runner nothing is demanded.

    Args:
        distiller: A `Distiller`, in its training step.

    Raises:
        RuntimeError: A hook is missing; says which, what would be lost, and where it belongs.
    """
    if MessageHub.get_current_instance().get_info("iter") is None:
        return
    stages, inherit = distiller.stages, distiller.inherit
    for hook, missing, lost in (
        (
            "AdapterStateHook",
            not distiller.saves_adapters and any(True for _ in distiller.terms.parameters()),
            "adapters of the terms would not be saved",
        ),
        ("StagesHook", bool(stages.all) and stages.index is None, "nobody enters the stages"),
        (
            "ReconstructionHook",
            bool(inherit and inherit.reconstruct) and not distiller.reconstructs,
            "nobody does init_cfg.reconstruct",
        ),
    ):
        if missing:
            raise RuntimeError(
                f"{lost}: add dict(type='{hook}') to custom_hooks, or configs/_base_/distill.py to _base_"
            )
