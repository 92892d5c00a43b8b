"""The view that fits a detector."""

from torch import nn

from det_distill.views.base import View
from det_distill.views.single_stage import SingleStageView
from det_distill.views.two_stage import TwoStageView


def view_of(detector: nn.Module, side: str) -> View:
    """Watch a detector under the names of its family.

    Args:
        detector: A stock MMDetection detector.
        side: "student" or "teacher", for messages.

    Raises:
        ValueError: The detector is of no family known here.
    """
    for family in (TwoStageView, SingleStageView):
        if family.shows(detector):
            return family(detector, side)
    raise ValueError(
        f"the {side} is a {type(detector).__name__}; a two-stage detector with an RPN, or a single-stage one "
        "that judges anchors or points (RetinaNet, FCOS, ATSS, GFL) is expected"
    )
