"""What a mask looks at: the boxes of a batch and the grids of its feature levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor


def sent(values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers known on the host as a tensor of a device, which nobody waits for."""
    return torch.tensor(values, dtype=dtype, device="cpu").to(device, non_blocking=True)


@dataclass(frozen=True)
class Scene:
    """The ground truth of a batch, in pixels of the student's input.

    Attributes:
        boxes: Per image (N, 4), x1 y1 x2 y2.
        ignored: Per image (M, 4), areas no loss may judge.
        shapes: Per image (height, width) without padding.
    """

    boxes: list[Tensor]
    ignored: list[Tensor]
    shapes: list[tuple[int, int]]

    @classmethod
    def from_samples(cls, samples: Sequence[DetDataSample]) -> "Scene":
        boxes = [get_box_tensor(sample.gt_instances.bboxes) for sample in samples]
        ignored = [
            get_box_tensor(sample.ignored_instances.bboxes) if "ignored_instances" in sample else own.new_zeros(0, 4)
            for sample, own in zip(samples, boxes, strict=True)
        ]
        return cls(boxes, ignored, [tuple(sample.img_shape[:2]) for sample in samples])

    def flat(self, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """All boxes as one (N, 4) fp64 tensor, and the (N,) index of the image of each."""
        image = [index for index, own in enumerate(boxes) for _ in range(len(own))]
        return torch.cat(list(boxes)).double(), sent(image, boxes[0].device, torch.long)


def whole_image(shape: tuple[int, int]) -> DetDataSample:
    """The sample of an image neither resized nor padded, of so many pixels (height, width), without a truth."""
    keys = ("img_shape", "ori_shape", "pad_shape", "batch_input_shape")
    return DetDataSample(metainfo=dict.fromkeys(keys, shape) | dict(scale_factor=(1.0, 1.0), img_id=0))


@dataclass(frozen=True)
class Level:
    """One feature level of the student's prior generator.

    Attributes:
        size: (H, W) cells.
        stride: (x, y) pixels a cell.
        anchors: (A, 4) the anchors of cell (0, 0); (0, 4) where a mask needs none.
    """

    size: tuple[int, int]
    stride: tuple[float, float]
    anchors: Tensor

    def in_cells(self, boxes: Tensor) -> Tensor:
        """(N, 4) boxes in units of cells."""
        return torch.stack([side / self.stride[axis % 2] for axis, side in enumerate(boxes.unbind(dim=1))], dim=1)

    def valid(self, scene: Scene) -> Tensor:
        """(B, 2) columns and rows of each image that its pixels reach, as MMDetection's `valid_flags` counts."""
        cells = [
            (min(self.size[1], ceil(w / self.stride[0])), min(self.size[0], ceil(h / self.stride[1])))
            for h, w in scene.shapes
        ]
        return sent(cells, scene.boxes[0].device)


def has_anchors(priors: Any) -> bool:
    """Whether a prior generator makes anchors, not points."""
    return hasattr(priors, "base_anchors")


def prior_strides(priors: Any) -> list[int]:
    """The x strides of a prior generator, one per level."""
    return [int(stride[0]) if isinstance(stride, tuple | list) else int(stride) for stride in priors.strides]


def levels_of(priors: Any, sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> list[Level]:
    """The levels of a prior generator that belong to maps of these sizes and strides.

    Args:
        priors: MMDetection's `AnchorGenerator` or `MlvlPointGenerator`, or None where no anchors are needed.
        sizes: (H, W) of each map.
        strides: Pixels a cell of each map.

    Raises:
        ValueError: The generator has no level of one of the strides.
    """
    if not has_anchors(priors):
        return [Level(size, (s, s), torch.zeros(0, 4)) for size, s in zip(sizes, strides, strict=True)]
    own = prior_strides(priors)
    missing = sorted(set(strides) - set(own))
    if missing:
        raise ValueError(f"the student's anchors have strides {own}, but maps of stride {missing} ask for a mask")
    return [
        Level((int(size[0]), int(size[1])), (stride, stride), priors.base_anchors[own.index(stride)])
        for size, stride in zip(sizes, strides, strict=True)
    ]
