"""Training steps of made-up images, of which nothing is learnt: by them costs are counted, timed and metered."""

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from det_distill.scene import whole_image


def begun(model: Any) -> None:
    """Set to training, each term at its full weight: one that starts later would cost nothing yet."""
    model.train()
    for term in model.terms.values():
        term.schedule = None


def made_up(
    shape: tuple[int, int], batch: int = 1, objects: int = 8, device: str = "cpu"
) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Preprocessed images of noise with boxes: the costs of a step hardly depend on what is in the picture."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([shape[1], shape[0]])
    corner = torch.rand(objects, 2, generator=generator) * size / 2
    boxes = torch.cat((corner, corner + size / 4), dim=1)
    sample = whole_image(shape)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(objects, dtype=torch.long))
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
    inputs = torch.randn(batch, 3, *shape, generator=generator)
    return inputs.to(device), [sample.clone().to(device) for _ in range(batch)]


def go_back(model: Any, losses: dict[str, Any]) -> None:
    """The backward pass of a step's losses; its gradients are dropped."""
    model.parse_losses(losses)[0].backward()
    model.zero_grad()
