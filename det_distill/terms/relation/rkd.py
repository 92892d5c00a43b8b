"""Distances and angles among boxes (relational knowledge distillation, Park et al., CVPR 2019)."""

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.rkd import angle_relation, distance_relation
from det_distill.terms.embeddings import EmbeddingTerm


@MODELS.register_module()
class DistanceRelation(EmbeddingTerm):
    """Distances between the embeddings of every two boxes, in units of their mean, on both sides alike.

    Args:
        weight: Multiplier; the paper's is 25 beside a task loss (and 50 for angles).
        **embeddings: See `EmbeddingTerm`.
    """

    def group(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return distance_relation(student, teacher)


@MODELS.register_module()
class AngleRelation(EmbeddingTerm):
    """Cosines of the angles that every three boxes' embeddings enclose, on both sides alike; memory grows as cap^3.

    Args:
        weight: Multiplier; the paper's is 50 beside a task loss.
        **embeddings: See `EmbeddingTerm`.
    """

    def group(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return angle_relation(student, teacher)
