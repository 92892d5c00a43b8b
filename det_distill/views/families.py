"""The view that fits a detector."""

from torch import nn

from det_distill.views.base import View
from det_distill.views.cascade import CascadeView
from det_distill.views.single_stage import SingleStageView
from det_distill.views.trunk import TrunkView
from det_distill.views.two_stage import TwoStageView


def view_of(detector: nn.Module, side: str) -> View:
    """Watch a detector under the names of its family, or those of its trunk.

    Args:
        detector: A stock MMDetection detector.
        side: "student" or "teacher", for messages.

    Raises:
        ValueError: It has no backbone.
    """
    for family in (CascadeView, TwoStageView, SingleStageView, TrunkView):
        if family.shows(detector):
            return family(detector, side)
    raise ValueError(f"the {side} is a {type(detector).__name__}; a detector with a backbone is expected")
