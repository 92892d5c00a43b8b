"""In which order others resemble a box (DarkRank, Chen et al., AAAI 2018)."""

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from det_distill.losses.darkrank import hard_ranking, nearest, similarity_scores, soft_ranking
from det_distill.refusals import at_least, choice
from det_distill.terms.embeddings import EmbeddingTerm

KINDS = {"hard": hard_ranking, "soft": soft_ranking}


@MODELS.register_module()
class DarkRank(EmbeddingTerm):
    """The teacher's ranking of the boxes it finds most like each box, followed by the student.

    Args:
        weight: Multiplier; the paper's is 2.
        kind: "hard", the likelihood of the teacher's order; "soft", the divergence over all orders.
        candidates: How many boxes are ranked for each.
        alpha: Contrast of the scores: minus alpha times distance to the power beta.
        beta: See `alpha`.
        **embeddings: See `EmbeddingTerm`.
    """

    def __init__(
        self,
        weight: float,
        kind: str = "hard",
        candidates: int = 4,
        alpha: float = 3.0,
        beta: float = 3.0,
        **embeddings: Any,
    ) -> None:
        super().__init__(weight, **embeddings)
        self.ranking = KINDS[choice("kind", kind, KINDS)]
        self.candidates = int(at_least("candidates", candidates, 2))
        if kind == "soft" and candidates > 5:
            raise ValueError(f"candidates={candidates} have {candidates}! orders; kind='soft' takes at most 5")
        self.alpha, self.beta = at_least("alpha", alpha, 0), at_least("beta", beta, 1)

    def group(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        listed = nearest(teacher, self.candidates)
        scores = [similarity_scores(side, *listed, self.alpha, self.beta) for side in (student, teacher)]
        return self.ranking(*scores)
