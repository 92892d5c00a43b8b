"""Several processes learn as one with their batches joined would.

Why: `DistributedDataParallel` takes the mean of the ranks' gradients. A term that divides by a number of its own, of
boxes or of a mask's cells, would then give each thing of a rank with few a louder voice; and relations between boxes
of different ranks would not exist. Each function here is its argument, untouched, where there is one process.
"""

from typing import Any

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from torch import Tensor, nn


def fair(value: Tensor, count: int | Tensor) -> Tensor:
    r"""A mean over the `count` things of this rank, weighted so that the ranks' mean is that over all their things.

    .. math:: v_r \frac{W \max(1, n_r)}{\max(1, \sum_r n_r)}

    Every rank must come here as often, those without a thing too.

    Args:
        value: Scalar, a sum over this rank's things divided by `max(1, count)`.
        count: How many they are.
    """
    ranks = get_world_size()
    if ranks == 1:
        return value
    own = torch.as_tensor(count, dtype=torch.float64, device=value.device)
    total = own.clone()
    all_reduce(total)
    return value * (ranks * own.clamp(min=1) / total.clamp(min=1)).to(value.dtype)


def summed(value: Tensor) -> Tensor:
    """A sum over this rank's things, weighted so that the ranks' mean is the sum over all their things."""
    return value * get_world_size()


def joined(rows: Tensor) -> Tensor:
    """The rows (N_r, ...) of all ranks, in order of rank; gradients go back to where the rows are from.

    A value of all rows, which every rank computes, has then W times its gradient on each rank's own, and their mean
    over ranks is right.
    """
    ranks = get_world_size()
    if ranks == 1:
        return rows
    counts = [int(one) for one in all_gather(torch.tensor(len(rows), device=rows.device))]
    padded = torch.cat((rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])))
    parts = _Gathered.apply(padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _Gathered(torch.autograd.Function):
    """(N, ...) of each rank as (W, N, ...); torch's own of this kind is deprecated."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return torch.stack(all_gather(rows))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        all_reduce(grad)
        return grad[get_rank()]


def idle(module: nn.Module, like: Tensor) -> Tensor:
    """A zero; of several ranks one that depends on every weight, for `DistributedDataParallel` waits for each gradient.

    So weight decay acts there on a module that has nothing to do in a step, such as a term's adapter before its
    schedule begins; in one process it rests.

    Args:
        module: What rests.
        like: Of the zero's device and dtype.
    """
    zero = like.new_zeros(())
    if get_world_size() > 1:
        for weight in module.parameters():
            zero = zero + 0 * weight.flatten()[:1].sum()
    return zero
