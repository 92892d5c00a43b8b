"""How far apart classes are, by the teacher's measure (triplet distillation, Feng et al., ICIP 2020)."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.triplet import driven_margin, triplets
from det_distill.terms.embeddings import EmbeddingTerm


@MODELS.register_module()
class TripletMargin(EmbeddingTerm):
    """Boxes of one class nearer than boxes of another, by a margin that grows with the teacher's own distances.

    Args:
        weight: Multiplier.
        least: The margin where the teacher sees no difference.
        most: The margin where it sees the largest of the group.
        cap: See `EmbeddingTerm`; triplets grow as its cube.
        **embeddings: See `EmbeddingTerm`.
    """

    def __init__(self, weight: float, least: float = 0.2, most: float = 0.5, cap: int = 64, **embeddings: Any) -> None:
        super().__init__(weight, cap=cap, **embeddings)
        if not 0 <= least <= most:
            raise ValueError(f"least={least}, most={most}; 0 <= least <= most is expected")
        self.least, self.most = least, most

    def group(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return driven_margin(student, teacher, triplets(labels), self.least, self.most)
