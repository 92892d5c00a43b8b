"""Class scores cell by cell (structured knowledge distillation, Liu et al., CVPR 2019)."""

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.structured import pixel_wise
from det_distill.ranks import summed
from det_distill.terms.maps import MapTerm
from det_distill.terms.rows import judged_alike
from det_distill.views.anatomy import Anatomy

TAPS = ("head.logits", "rpn.logits")


@MODELS.register_module()
class PixelWise(MapTerm):
    """Cross entropy with the teacher's scores in every cell of a dense head: "head.logits" or "rpn.logits".

    Sigmoid scores are a Bernoulli each, a softmax's exclude each other; both are summed over a cell's anchors. The mean
    over cells is summed over the images of a batch, as in the paper's code; the value is the mean over levels.

    Args:
        tap: One of the two.
        weight: Multiplier; the paper's is 10.
        **maps: See `MapTerm`; an adapter makes no sense here.
    """

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        if self.tap not in TAPS:
            raise ValueError(f"tap='{self.tap}' shows no class scores; one of {', '.join(TAPS)} is expected")
        self.each = judged_alike(student, teacher)
        super().wire(student, teacher)
        heads = [side.grid_head for side in (student, teacher)]
        if heads[0].use_sigmoid_cls != heads[1].use_sigmoid_cls:
            raise ValueError("one of the nets has a softmax, the other sigmoids; their scores do not compare")
        self.sigmoid = bool(heads[0].use_sigmoid_cls)

    def level(self, student: Tensor, teacher: Tensor) -> Tensor:
        own, its = (side.unflatten(1, (self.each, -1)).flatten(0, 1) for side in (student, teacher))  # (B * A, K, H, W)
        return summed(pixel_wise(own, its, self.sigmoid))
