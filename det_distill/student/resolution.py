"""A smaller copy of the batch for the student; its teacher sees it whole (Chen, NIPS 2017; Li, CVPR 2017).

Why here and not in the data pipeline: one pipeline draws one crop, one flip, one colour; both nets must see the same.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any

from mmdet.structures.bbox import scale_boxes
from torch import Tensor, nn
from torch.nn import functional as F

from det_distill.preprocess import padding

FINEST = 16  # a scale is a fraction of at most this denominator, so that padded sizes scale to whole pixels
ROUNDED = 1e-3  # 0.667 is 2/3, but 0.123 is no 1/8


class Shrink:
    """Scales images and boxes of a batch; at scale 1 it hands on what it is given.

    The batch is padded first, so that both sizes are whole and the smaller fits the student's divisor; what lies
    beyond an image keeps the student's padding value. Bilinear without smoothing, as the stock `Resize` is: at 1/2
    both average two by two pixels.

    Args:
        scale: Pixels of the student's input a pixel of the batch, in (0, 1].
        preprocessor: The student's `DetDataPreprocessor`.

    Raises:
        ValueError: On a scale outside (0, 1], or that is no fraction of small denominator, or padding by no number.
    """

    def __init__(self, scale: float, preprocessor: nn.Module) -> None:
        if not isinstance(scale, int | float) or not 0 < scale <= 1:
            raise ValueError(f"student.scale={scale!r}; a number in (0, 1] is expected, such as 1/2, 2/3 or 3/4")
        share = max(Fraction(scale).limit_denominator(FINEST), Fraction(1, FINEST))
        if abs(float(share) - scale) > ROUNDED:
            raise ValueError(
                f"student.scale={scale}; a fraction of denominator up to {FINEST} is expected, the nearest is {share}"
            )
        self.share, self.scale = share, float(share)
        divisor, self.pad = padding(preprocessor)
        self.multiple = share.denominator * divisor

    def __call__(self, inputs: Tensor, samples: Sequence[Any]) -> tuple[Tensor, Tensor, Sequence[Any]]:
        """The batch as the teacher sees it, the student's, and the student's data samples.

        Args:
            inputs: (B, 3, H, W), preprocessed for the student.
            samples: The data samples, boxes in pixels of `inputs`; they are not changed.
        """
        if self.scale == 1:
            return inputs, inputs, samples
        h, w = inputs.shape[2:]
        more = [ceil(side / self.multiple) * self.multiple - side for side in (w, h)]
        whole = F.pad(inputs, (0, more[0], 0, more[1]), value=self.pad) if any(more) else inputs
        size = [int(side * self.share) for side in whole.shape[2:]]
        small = F.interpolate(whole, size, mode="bilinear")
        own = [self._sample(sample, (size[0], size[1])) for sample in samples]
        for image, sample in zip(small, own, strict=True):
            image[:, sample.img_shape[0] :] = self.pad
            image[:, :, sample.img_shape[1] :] = self.pad
        return whole, small, own

    def _sample(self, sample: Any, size: tuple[int, int]) -> Any:
        new = sample.clone()
        for kind in ("gt_instances", "ignored_instances"):
            if kind in new:
                instances = getattr(new, kind).clone()  # a clone shares what it holds, down to the boxes
                if "masks" in instances:
                    raise ValueError(
                        f"{kind}.masks cannot be scaled: student.scale={self.scale:g} is for box detectors"
                    )
                instances.bboxes = scale_boxes(instances.bboxes.clone(), (self.scale, self.scale))
                setattr(new, kind, instances)
        shape = tuple(int(side * self.scale + 0.5) for side in new.img_shape[:2])
        new.set_metainfo(dict(img_shape=shape, pad_shape=size, batch_input_shape=size))
        if "scale_factor" in new:
            new.set_metainfo(dict(scale_factor=tuple(factor * self.scale for factor in new.scale_factor)))
        return new

    def to_batch(self, rois: Tensor) -> Tensor:
        """(N, 5) boxes of the student's input in pixels of the batch."""
        return rois if self.scale == 1 else rois / rois.new_tensor([1] + 4 * [self.scale])
