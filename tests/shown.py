"""What a term sees of two nets and of a batch, made by hand: no detector runs."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from det_distill.scene import Scene
from det_distill.terms.base import Batch
from det_distill.views.anatomy import Anatomy, MapSpec

SIZE = (64, 96)
NOTHING = Batch(Scene([], [], []), [], None)


def specs(channels: int, *strides: int) -> tuple[MapSpec, ...]:
    return tuple(MapSpec(channels, stride) for stride in strides)


def maps(channels: int, *strides: int, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, ...]:
    """Maps of two images of SIZE, of noise."""
    g = torch.Generator().manual_seed(seed)
    sizes = [(2, channels, int(SIZE[0] * scale) // s, int(SIZE[1] * scale) // s) for s in strides]
    return tuple(torch.randn(size, generator=g).requires_grad_() for size in sizes)


def wired(term: Any, own: Mapping[str, Any], its: Mapping[str, Any], scale: float = 1.0, **both: Any) -> Any:
    """The term once it was shown nets that show this by tap, and are alike else."""
    torch.manual_seed(0)
    teacher = Anatomy("teacher", its, **both)
    term.wire(Anatomy("student", own, scale=scale, **both), dict(one=teacher) if term.ensemble else teacher)
    return term


def batch(boxes: Sequence[Sequence[Sequence[float]]], labels: Sequence[Sequence[int]] | None = None) -> Batch:
    """Of each image its boxes, and their classes."""
    found = [torch.tensor(one, dtype=torch.float32).reshape(-1, 4) for one in boxes]
    classes = labels or [[0] * len(one) for one in boxes]
    samples = [SimpleNamespace(gt_instances=SimpleNamespace(labels=torch.tensor(one).long())) for one in classes]
    return Batch(Scene(found, [one[:0] for one in found], [SIZE] * len(found)), samples, None)
