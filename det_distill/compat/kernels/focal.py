"""Sigmoid focal loss, forward and backward."""

import torch
from torch import Tensor

from det_distill.compat.kernels.precision import wide


def _truth(x: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(N, C) each: +1 at the target's class and -1 elsewhere; alpha balance times class weight.

    Target (N,) in [0, C], where C is background. A weight is per target class; background weighs 1
    (the compiled kernel reads past the end of the weights there).
    """
    hit = torch.nn.functional.one_hot(target, x.shape[1] + 1)[:, :-1].to(x)
    balance = alpha * hit + (1 - alpha) * (1 - hit)
    if weight.numel():
        balance = balance * torch.cat((weight.to(x), x.new_ones(1)))[target][:, None]
    return 2 * hit - 1, balance


def sigmoid_focal_loss_forward(
    x: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    (logits,) = wide(x)
    sign, balance = _truth(logits, target, weight, alpha)
    z = sign * logits  # p = sigmoid(z) is the probability of the truth
    output.copy_(-balance * (-z).sigmoid() ** gamma * torch.nn.functional.logsigmoid(z))


def sigmoid_focal_loss_backward(
    x: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """In closed form: autograd's power rule gives 0 * inf at p = 1 for gamma < 1."""
    (logits,) = wide(x)
    sign, balance = _truth(logits, target, weight, alpha)
    z = sign * logits
    p, q = z.sigmoid(), (-z).sigmoid()
    grad_input.copy_(-balance * sign * q**gamma * (q - gamma * p * torch.nn.functional.logsigmoid(z)))
