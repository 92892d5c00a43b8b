"""What a detector is made of, as a term finds it before training: maps, strides, anchors, heads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class MapSpec:
    """Channels and stride (pixels a cell) of a feature map, as a dry run finds them."""

    channels: int
    stride: int


def _no_rois(_: torch.Tensor) -> torch.Tensor:
    raise ValueError("a detector without a RoI head classifies no RoI features")


@dataclass(frozen=True)
class Anatomy:
    """One detector before training.

    Attributes:
        side: "student" or "teacher", for messages.
        shows: By tap, a `MapSpec` per level, or the shape behind N.
        rpn: The RPN head; None without one.
        head: The box head of the RoI stage; None without one, the first stage's on a cascade.
        scale: Pixels of its input a pixel of the batch: below 1 on a student of lower resolution.
        dense: The single-stage head; None without one.
        classify: Class logits (N, K + 1) of RoI features (N, C, h, w), where there is a RoI head.
        cuts: The tap that the RoI head cuts its boxes from, and its extractor; None without one.
        class_map: Of a teacher of other classes, pairs of its class and the student's.
    """

    side: str
    shows: Mapping[str, tuple[MapSpec, ...] | tuple[int, ...]]
    rpn: Any = None
    head: Any = None
    scale: float = 1.0
    dense: Any = None
    classify: Callable[[torch.Tensor], torch.Tensor] = _no_rois
    cuts: tuple[str, Any] | None = None
    class_map: tuple[tuple[int, int], ...] | None = None

    @property
    def grid_head(self) -> Any:
        """The head that judges every cell: the RPN, or the single-stage head."""
        return self.rpn or self.dense

    @property
    def priors(self) -> Any:
        """What it judges in every cell: the prior generator, where there is one."""
        return getattr(self.grid_head, "prior_generator", None)

    def width(self, tap: str) -> int:
        """Channels of the crops, or length of the vectors, that a tap of the RoI head shows."""
        first = self.shows[tap][0]
        if isinstance(first, MapSpec):
            raise ValueError(f"'{tap}' shows feature maps on the {self.side}, not a tensor per box")
        return first

    def length(self, tap: str) -> int:
        """Length of the vectors that a tap of the RoI head shows.

        Raises:
            ValueError: It shows no vectors, such as R-FCN's votes.
        """
        if len(self.shows[tap]) > 1:
            raise ValueError(f"'{tap}' is no vector a box on the {self.side}: {self.shows[tap]}")
        return self.width(tap)

    def maps(self, tap: str) -> tuple[MapSpec, ...]:
        """The levels of a tap.

        Raises:
            ValueError: It shows no maps, or two of one stride.
        """
        specs = tuple(spec for spec in self.shows[tap] if isinstance(spec, MapSpec))
        if len(specs) < len(self.shows[tap]) or not specs:
            raise ValueError(f"'{tap}' shows {self.shows[tap]} on the {self.side}, not feature maps (B, C, H, W)")
        strides = [spec.stride for spec in specs]
        if len(set(strides)) < len(strides):
            raise ValueError(f"'{tap}' shows two maps of one stride on the {self.side}: {strides}")
        return specs
