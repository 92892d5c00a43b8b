"""Turn a batch preprocessed for the student into the same batch preprocessed for the teacher."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from det_distill.refusals import at_least


def _affine(preprocessor: Any) -> tuple[Tensor, Tensor]:
    """Mean and std (3,), on the scale of 0 to 255 and in the order of the preprocessed channels."""
    if not getattr(preprocessor, "_enable_normalize", False):
        return torch.zeros(3), torch.ones(3)
    return preprocessor.mean.flatten().cpu().float(), preprocessor.std.flatten().cpu().float()


def padding(preprocessor: Any) -> tuple[int, float]:
    """What sides of a batch are a multiple of, and the value that lies beyond an image.

    Raises:
        ValueError: A divisor below 1 or no number, or a value that is none.
    """
    divisor = at_least("data_preprocessor.pad_size_divisor", getattr(preprocessor, "pad_size_divisor", 1), 1)
    value = getattr(preprocessor, "pad_value", 0)
    if not isinstance(value, int | float):
        raise ValueError(f"data_preprocessor.pad_value={value!r:.80}; a number is expected")
    return int(divisor), float(value)


class Renormalise:
    """Undo the student's mean, std and channel order and apply the teacher's; pad as the teacher pads.

    Where both agree the tensor is shared, not copied.

    Args:
        student: The student's `DetDataPreprocessor`.
        teacher: The teacher's.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        mean_s, std_s = _affine(student)
        mean_t, std_t = _affine(teacher)
        self.flip = bool(getattr(student, "_channel_conversion", False)) != bool(
            getattr(teacher, "_channel_conversion", False)
        )
        if self.flip:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.scale = std_s / std_t  # t = (s * std_s + mean_s - mean_t) / std_t
        self.shift = (mean_s - mean_t) / std_t
        self.divisor, self.pad = padding(teacher)
        same_numbers = torch.equal(mean_s, mean_t) and torch.equal(std_s, std_t)
        self.same = same_numbers and not self.flip and self.pad == padding(student)[1]

    def __call__(self, inputs: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        """(B, 3, H, W) for the student to (B, 3, H', W') for the teacher; H', W' fit its divisor.

        Args:
            inputs: The student's batch.
            shapes: (height, width) of each image inside it; the rest is padding.
        """
        height, width = inputs.shape[2:]
        more = [ceil(side / self.divisor) * self.divisor - side for side in (width, height)]
        batch = inputs
        if not self.same:
            batch = batch.flip(1) if self.flip else batch
            batch = batch * self.scale.to(batch)[:, None, None] + self.shift.to(batch)[:, None, None]
            for image, (h, w, *_) in zip(batch, shapes, strict=True):
                image[:, h:] = self.pad
                image[:, :, w:] = self.pad
        return F.pad(batch, (0, more[0], 0, more[1]), value=self.pad) if any(more) else batch

    @staticmethod
    def crop(value: Any, inputs: Tensor, batch: Tensor) -> Any:
        """Cut maps (B, C, h, w) of the padded `batch` to the cells that cover `inputs`; other tensors pass."""
        if not isinstance(value, Tensor):
            return tuple(Renormalise.crop(part, inputs, batch) for part in value)
        if value.dim() != 4 or value.shape[0] != batch.shape[0]:
            return value
        h, w = (ceil(value.shape[axis] * inputs.shape[axis] / batch.shape[axis]) for axis in (2, 3))
        return value[:, :, :h, :w]
