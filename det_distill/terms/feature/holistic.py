"""A critic that tells the nets' maps apart (structured knowledge distillation, Liu et al., CVPR 2019)."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.dist import all_reduce_params
from torch import Tensor

from det_distill.losses.critic import Critic, critic_loss, holistic
from det_distill.refusals import at_least
from det_distill.terms.base import Batch
from det_distill.terms.maps import MapTerm
from det_distill.views.anatomy import Anatomy


@MODELS.register_module()
class Holistic(MapTerm):
    """The student's maps are to pass for the teacher's before a critic, which learns in turn by its own optimiser.

    One Wasserstein critic with gradient penalty judges all levels, brought to one size. Each training forward it learns
    for a step before it judges; its optimiser travels with the checkpoint, and the student's leaves it alone.

    Args:
        tap: See `MapTerm`; the paper's are class scores ("head.logits").
        weight: Multiplier; the paper's is 0.1.
        size: Cells a side at which maps are judged.
        width: Channels of the critic's first layer.
        penalty: Weight of the gradient penalty.
        lr: Of the critic's Adam.
        **maps: See `MapTerm`.
    """

    def __init__(
        self,
        tap: str,
        weight: float,
        size: int = 32,
        width: int = 32,
        penalty: float = 10.0,
        lr: float = 4e-4,
        **maps: Any,
    ) -> None:
        super().__init__(tap, weight, **maps)
        self.size, self.width, self.lr = size, width, at_least("lr", lr, 0)
        self.penalty = at_least("penalty", penalty, 0)

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        super().wire(student, teacher)
        channels = sorted({pair.channels[1] for pair in self.pairs})
        if len(channels) > 1:
            raise ValueError(f"'{self.tap}' has levels of {channels} channels on the teacher; set strides=[one]")
        self.critic = Critic(channels[0], self.size, self.width).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), self.lr, betas=(0.9, 0.99))

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        levels = self.compared(student, teacher)
        if self.training and torch.is_grad_enabled():
            self._teach([(own.detach(), its) for own, its in levels])
        self.critic.eval()  # spectral norms stay as they are, so that one level's graph outlives the next level's
        return self.total([holistic(self.critic, own) for own, _ in levels])

    def _teach(self, levels: list[tuple[Tensor, Tensor]]) -> None:
        self.critic.train().requires_grad_(True)
        self.total([critic_loss(self.critic, own, its, self.penalty) for own, its in levels]).backward()
        all_reduce_params([weight.grad for weight in self.critic.parameters()], op="mean")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.critic.requires_grad_(False)  # so that no other optimiser, and no DDP, waits for it

    def get_extra_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
