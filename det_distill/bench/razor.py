"""MMRazor 1.0.0's distillers on two detectors, to be timed beside ours.

Why the stand-ins: its quantisation, which distilling never touches, imports names that torch dropped after 2.0, and
without them nothing of it can be imported.
"""

import sys
from types import ModuleType
from typing import Any

from mmengine.registry import DefaultScope
from torch import nn

QUANTISATION = ("structures.quantization", "models.quantizers", "models.algorithms.quantization")


class _StandIn(ModuleType):
    """A package in which every name is an empty class, but the one that is a table."""

    __all__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return {} if name == "BackendConfigs" else type(name, (), {})


def distiller(kind: str, student: nn.Module, teacher: nn.Module, source: str, levels: int, by_call: bool) -> Any:
    """`FpnTeacherDistill` or `SingleTeacherDistill` with a mean squared gap between maps, the mean over levels.

    Args:
        kind: Which of the two; the first runs the teacher's backbone and neck alone.
        student: Learns.
        teacher: Its weights are in place.
        source: The module whose outputs are compared, such as "neck".
        levels: How many maps it shows.
        by_call: Whether one a call, or all in a tuple.

    Raises:
        ImportError: MMRazor is not installed.
    """
    for name in QUANTISATION:
        sys.modules.setdefault(f"mmrazor.{name}", _StandIn(f"mmrazor.{name}"))
    import mmrazor.models  # noqa: F401 - registers
    from mmrazor.registry import MODELS as RAZOR  # an optional peer, and not importable before the lines above

    def place(level: int, from_student: bool) -> dict[str, Any]:
        return dict(from_student=from_student, recorder="maps", **{"record_idx" if by_call else "data_idx": level})

    recorders = dict(maps=dict(type="ModuleOutputs", source=source))
    loss = dict(type="L2Loss", normalize=False, div_element=True, loss_weight=1 / levels)
    mappings = {
        f"loss_{level}": dict(s_feature=place(level, True), t_feature=place(level, False)) for level in range(levels)
    }
    with DefaultScope.overwrite_default_scope("mmrazor"):
        model = RAZOR.build(
            dict(
                type=kind,
                architecture=student,
                teacher=teacher,
                distiller=dict(
                    type="ConfigurableDistiller",
                    student_recorders=recorders,
                    teacher_recorders=recorders,
                    distill_losses=dict.fromkeys(mappings, loss),
                    loss_forward_mappings=mappings,
                ),
            )
        )
    model.train()  # gives nothing back
    return model
