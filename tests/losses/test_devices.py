"""What a loss makes for itself lies where its tensors lie, wherever else torch would put it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from det_distill.losses.critic import critic_loss
from det_distill.losses.darkrank import hard_ranking, nearest, similarity_scores, soft_ranking
from det_distill.losses.hinton import soft_kl, specialist_kl
from det_distill.losses.triplet import driven_margin, triplets


def draw(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mean_score(maps: Tensor) -> Tensor:
    return maps.square().flatten(1).mean(dim=1)


CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "critic_loss": (critic_loss, (mean_score, draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=8))),
    "driven_margin": (driven_margin, (draw(3, 4), draw(3, 5), torch.tensor([[0, 1, 2], [1, 0, 2]]))),
    "hard_ranking": (hard_ranking, (draw(3, 4), draw(3, 4, seed=8))),
    "nearest": (nearest, (draw(5, 4), 2)),
    "similarity_scores": (similarity_scores, (draw(5, 4), torch.tensor([0]), torch.tensor([[1, 2]]))),
    "soft_kl": (soft_kl, (draw(2, 3), draw(2, 2).softmax(dim=1), 2.0, [0, 1, 1])),
    "soft_ranking": (soft_ranking, (draw(3, 4), draw(3, 4, seed=8))),
    "specialist_kl": (specialist_kl, (draw(2, 3), draw(2, 2), [(1, 0)], 1.0)),
    "triplets": (triplets, (torch.tensor([4, 4, 7, 7]),)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_default_device_has_no_say(name: str):
    call, args = CALLS[name]
    torch.manual_seed(7)
    expected = call(*args)
    torch.manual_seed(7)
    with torch.device("meta"):  # holds no numbers, so whatever is made there spoils the value
        found = call(*args)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
