"""Sort a net's channels, the heaviest first, wherever that changes nothing of what the net computes.

A channel weighs what Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023), give it: the
squared norms of all that belongs to it in every layer that writes or reads it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from det_distill.inheritance.groups import groups_of, layers_of
from det_distill.modes import evaluating
from det_distill.views.base import DRY_RUN, View

TOLERANCE = 1e-3  # of the greatest output: how far a sum in another order may be off


@torch.no_grad()
def sort_channels(view: View) -> int:
    """Sort the channels of a detector in place.

    Args:
        view: Of the detector.

    Returns:
        How many groups of layers were sorted.

    Raises:
        ValueError: A layer does not run where boxes are found, such as a mask head's, so nobody knows what it reads;
            or the detector then computed something else, for a part of it looks at the channels by number.
    """
    net = view.detector
    device = next(net.parameters()).device
    noise = torch.randn(1, 3, DRY_RUN, DRY_RUN, generator=torch.Generator().manual_seed(0)).to(device)
    rois = torch.tensor([[0.0, 32, 32, 160, 160], [0, 8, 60, 250, 230]], device=device)
    with evaluating(net):
        groups = groups_of(view, noise, rois)
        ends = [name for name, one in layers_of(net) if not any(one in group.writers for group in groups)]
        before = _shown(view, noise, rois, ends)
        for group in groups:
            group.sort()
        after = _shown(view, noise, rois, ends)
    for name, one, other in zip(ends, before, after, strict=True):
        if not torch.allclose(one, other, rtol=0, atol=TOLERANCE * max(1e-3, float(one.abs().max()))):
            raise ValueError(
                f"sorted by weight, the channels of the {view.side} no longer give what they did at '{name}': a part "
                "of the net looks at them that is no convolution, linear layer or batch norm; use channels='first'"
            )
    return len(groups)


def _shown(view: View, inputs: Tensor, rois: Tensor, names: Sequence[str]) -> list[Tensor]:
    """What some layers give, all their calls in one row."""
    sight = view.run(inputs, names, rois)
    return [torch.cat([one.flatten() for one in sight[name]]) for name in names]
