"""A critic that tells the student's score maps from the teacher's (Liu et al., CVPR 2019, holistic distillation)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

from det_distill.fp32 import common, full, no_autocast


class SelfAttention(nn.Module):
    """Every cell adds a mean of all cells, weighted by likeness and times `gamma`, which begins at 0 (SAGAN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.key = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        query, key, value = (layer(maps).flatten(2) for layer in (self.query, self.key, self.value))  # (B, ., HW)
        likeness = (query.transpose(1, 2) @ key).softmax(dim=2)  # (B, HW, HW), of a cell to all
        seen: Tensor = (value @ likeness.transpose(1, 2)).view_as(maps)
        return maps + self.gamma * seen


class Critic(nn.Module):
    """One score per image of whole score maps; high for the teacher's once it has learnt.

    Three 4x4 convolutions of stride 2, spectrally normalised, self-attention before the third, and one that takes
    the rest at once. Unlike the code, no batch norm comes first: the gradient penalty is one of single images.

    Args:
        channels: Of the score maps.
        size: Any map is resized to size x size first, bilinearly; a multiple of 8.
        width: Channels of the first convolution; the others double it each.

    Raises:
        ValueError: If the size is no multiple of 8.

    Source:
        arXiv:1903.04197; irfanICMLL/structure_knowledge_distillation@ce208e1, one convolution fewer for 32x32.
    """

    def __init__(self, channels: int, size: int = 32, width: int = 32) -> None:
        super().__init__()
        if size < 8 or size % 8:
            raise ValueError(f"want a size that is a multiple of 8, got size={size}")
        self.size = size

        def halve(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
            return spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.1)

        self.layers = nn.Sequential(
            *halve(channels, width),
            *halve(width, 2 * width),
            SelfAttention(2 * width),
            *halve(2 * width, 4 * width),
            nn.Conv2d(4 * width, 1, size // 8),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) to (B,) scores."""
        scores: Tensor = self.layers(interpolate(maps, (self.size, self.size), mode="bilinear"))
        return scores.flatten()


def critic_loss(critic: nn.Module, student: Tensor, teacher: Tensor, penalty: float = 10.0) -> Tensor:
    r"""What the critic minimises: Wasserstein distance with a gradient penalty.

    .. math:: \frac{1}{\max(1, B)} \sum_b D(S_b) - D(T_b) + \lambda (\lVert \nabla D(x_b) \rVert - 1)^2, \quad
        x_b = a_b T_b + (1 - a_b) S_b

    with a uniform in [0, 1), one per image, and the norm over all of an image's map. B counts images.

    Args:
        critic: From (B, C, H, W) maps to (B,) scores, each image by itself.
        student: (B, C, H, W) score maps; detached here.
        teacher: (B, C, H, W), of the same images; detached here.
        penalty: Lambda.

    Returns:
        Scalar, at least fp32, with a gradient to the critic alone; a differentiable 0 without images.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:1704.00028; irfanICMLL/structure_knowledge_distillation@ce208e1.

    Example:
        >>> total = nn.Flatten(0)  # of maps with one cell: a gradient of norm 1, so no penalty
        >>> critic_loss(total, torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0))
        tensor(2.)
    """
    if student.dim() != 4 or teacher.shape != student.shape:
        raise ValueError(f"want equal (B, C, H, W) maps, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    student, teacher = full(student.detach(), teacher)
    share = torch.rand(len(student), 1, 1, 1, dtype=student.dtype, device=student.device)
    mixed = (share * teacher + (1 - share) * student).requires_grad_()
    with no_autocast(student):
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        steepness: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)  # (B,)
        scores: Tensor = critic(torch.cat((student, teacher))).view(2, len(student))
    each = scores[0] - scores[1] + penalty * (steepness - 1).square()
    return each.sum() / max(1, len(student))


def holistic(critic: nn.Module, student: Tensor) -> Tensor:
    r"""What the student minimises: the critic is to take its maps for the teacher's.

    .. math:: -\frac{1}{\max(1, B)} \sum_b D(S_b)

    B counts images.

    Args:
        critic: From (B, C, H, W) maps to (B,) scores; its parameters get no gradient.
        student: (B, C, H, W) score maps.

    Returns:
        Scalar, at least fp32, of any sign; a differentiable 0 without images.

    Raises:
        ValueError: If the maps are not (B, C, H, W).

    Source:
        arXiv:1903.04197; irfanICMLL/structure_knowledge_distillation@ce208e1.

    Example:
        >>> holistic(nn.Flatten(0), torch.full((1, 1, 1, 1), 3.0))
        tensor(-3.)
    """
    if student.dim() != 4:
        raise ValueError(f"want (B, C, H, W) maps, got {tuple(student.shape)}")
    frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    with no_autocast(student):
        scores: Tensor = functional_call(critic, frozen, (student.to(common(student)),))
        return -scores.sum() / max(1, len(student))
