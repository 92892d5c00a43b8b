"""What a term asks of a mask."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from det_distill.scene import Level, Scene, has_anchors, levels_of, prior_strides


class Mask(Protocol):
    """What a term asks of a mask."""

    needs_anchors: bool

    def __call__(self, scene: Scene, levels: Sequence[Level]) -> list[Tensor]: ...


def cells_on(mask: Mask, scene: Scene, priors: Any, maps: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
    """Bool (B, H, W) of each of the maps (B, C, H, W) of these strides.

    Args:
        mask: The mask.
        scene: The batch's truth.
        priors: The student's prior generator; looked at only by a mask that needs anchors.
        maps: The student's.
        strides: Pixels a cell of each map.
    """
    sizes = [(int(one.shape[2]), int(one.shape[3])) for one in maps]
    return mask(scene, levels_of(priors if mask.needs_anchors else None, sizes, strides))


def demand_anchors(mask: Mask, priors: Any, strides: Sequence[int]) -> None:
    """Refuse a mask of anchors where a student has none at the strides compared.

    Raises:
        ValueError: It judges points or has neither, or its anchors have other strides.
    """
    if not mask.needs_anchors:
        return
    if not has_anchors(priors):
        kind = "has none" if priors is None else "judges points"
        raise ValueError(f"{type(mask).__name__} needs anchors, the student {kind}; use PointMask or GtBoxMask")
    known = prior_strides(priors)
    if not set(strides) <= set(known):
        raise ValueError(
            f"{type(mask).__name__} needs anchors at strides {list(strides)}, the student's have {known}; set "
            "strides=, or use GtBoxMask"
        )
