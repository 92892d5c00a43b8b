"""Flow of the solution: how features change between two layers (Yim et al., CVPR 2017)."""

from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from det_distill.fp32 import common, full, no_autocast


def flow(first: Tensor, second: Tensor) -> Tensor:
    r"""The cross-layer Gram matrix, per cell.

    .. math:: G_{bij} = \frac{1}{\max(1, hw)} \sum_p F^1_{bip} F^2_{bjp}

    Where the sizes differ, the larger map is max-pooled to the smaller height and width; hw counts the cells that
    are left.

    Args:
        first: (B, m, H, W), raw activation units.
        second: (B, n, H', W'), a later layer's of the same images.

    Returns:
        (B, m, n), at least fp32, activation squared per cell.

    Raises:
        ValueError: If the maps are no (B, C, H, W) of one B.

    Source:
        Yim et al., CVPR 2017.

    Example:
        >>> import torch
        >>> flow(torch.tensor([1.0, 3.0]).view(1, 1, 2, 1), torch.tensor([[2.0, 4.0], [0.0, 1.0]]).view(1, 2, 2, 1))
        tensor([[[7.0000, 1.5000]]])
    """
    if first.dim() != 4 or second.dim() != 4 or len(first) != len(second):
        got = f"{tuple(first.shape)}, {tuple(second.shape)}"
        raise ValueError(f"want two (B, C, H, W) maps of the same B images, got {got}")
    dtype = common(first, second)
    size = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
    one, two = (
        maps.to(dtype) if maps.shape[2:] == size else adaptive_max_pool2d(maps.to(dtype), size)
        for maps in (first, second)
    )
    with no_autocast(one):
        return one.flatten(2) @ two.flatten(2).transpose(1, 2) / max(1, size[0] * size[1])


def flow_of_solution(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    r"""The squared gap between the flows of both nets, per image.

    .. math:: \frac{1}{\max(1, B)} \sum_b \lVert G^s_b - G^t_b \rVert_F^2

    B counts images; the m x n entries of `flow` are summed, never averaged. The nets may differ in size of map.

    Args:
        student: ((B, m, H, W), (B, n, H', W')), adapted features of an earlier and a later layer.
        teacher: the same of the teacher, with the same m and n; detached here.

    Returns:
        Scalar, at least fp32, activation to the fourth; a differentiable 0 without images or cells.

    Raises:
        ValueError: If channels differ between the nets, or the maps are no (B, C, H, W) of one B.

    Source:
        Yim et al., CVPR 2017, for one pair of layers; the max pooling is the paper's.
        HobbitLong/RepDistiller@b84f547 average-pools and takes the mean over the entries.

    Example:
        >>> import torch
        >>> layers = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1), torch.tensor([[2.0, 4.0], [0.0, 1.0]]).view(1, 2, 2, 1)
        >>> flow_of_solution((torch.zeros(1, 1, 2, 1), torch.zeros(1, 2, 2, 1)), layers)  # 7^2 + 1.5^2
        tensor(51.2500)
    """
    flows = full(flow(*student), flow(*(maps.detach() for maps in teacher)))
    if flows[0].shape != flows[1].shape:
        got = ", ".join(str(tuple(maps.shape)) for maps in (*student, *teacher))
        raise ValueError(f"want equal images and channels in both nets, got {got}; an adapter can make channels equal")
    return (flows[0] - flows[1]).square().sum() / max(1, len(flows[0]))
