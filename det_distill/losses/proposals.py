"""Feature mimicry on proposals (Li et al., CVPR 2017; Wei et al., ECCV 2018)."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from det_distill.fp32 import full


def proposal_mimic(student: Tensor, teacher: Tensor, normalise: bool = True) -> Tensor:
    r"""Half the squared gap between the features of proposals, per proposal.

    .. math:: \frac{1}{2 \max(1, N)} \sum_i \frac{1}{m} \lVert u_i - v_i \rVert^2

    N counts proposals of the whole batch; m is the number of elements of one item, channels included.

    Args:
        student: (N, ...), adapted features of the proposals, such as (N, C, 7, 7).
        teacher: (N, ...), features of the same proposals; detached here.
        normalise: Whether m divides, as in Li et al.; if not, m = 1, as in Wei et al.

    Returns:
        Scalar, at least fp32, activation squared; a differentiable 0 without proposals.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        Li et al., CVPR 2017; Wei et al., ECCV 2018.

    Example:
        >>> proposal_mimic(torch.full((1, 2, 3), 2.0), torch.zeros(1, 2, 3))  # 4 / 2
        tensor(2.)
    """
    if student.dim() == 0 or teacher.shape != student.shape:
        raise ValueError(f"want equal (N, ...) features, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    student, teacher = full(student, teacher)
    squares = (student - teacher).square().sum()
    elements = student.shape[1:].numel() if normalise else 1
    return squares / (2 * max(1, len(student)) * max(1, elements))


def native_crop_mimic(
    student: Tensor, teacher: Tensor, cells: Tensor, normalise: bool = True, on: Tensor | None = None
) -> Tensor:
    r"""`proposal_mimic` of crops that keep their own sizes.

    .. math:: \frac{1}{2 \max(1, N)} \sum_i \frac{1}{m_i} \lVert u_i - v_i \rVert^2, \quad m_i = C h_i w_i

    No crop is cut: the squared gap is summed along both axes once, and a crop's share is read off at its four
    corners. The sums are fp64, since they grow with the map and a small crop is the difference of large ones.

    Args:
        student: (B, C, H, W), adapted features.
        teacher: (B, C, H, W), same units; detached here.
        cells: (N, 5), int64, rectangles on the map: image, x1, y1, x2, y2, of which x2 and y2 lie just beyond.
        normalise: As in `proposal_mimic`, with m_i of each crop.
        on: (N,), bool, true where a rectangle has a share; N counts the others too. All by default.

    Returns:
        Scalar, at least fp32, activation squared; a differentiable 0 without rectangles.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts), cells are not int64, or a rectangle is empty or
            leaves the map; where the host would have to wait for a device to see that, the value is NaN.

    Source:
        Li et al., CVPR 2017; that m_i counts channels is our reading.

    Example:
        >>> wide, narrow = [0, 0, 0, 2, 2], [0, 2, 0, 3, 1]
        >>> native_crop_mimic(torch.ones(1, 1, 2, 3), torch.zeros(1, 1, 2, 3), torch.tensor([wide, narrow]))
        tensor(0.5000)
    """
    if student.dim() != 4 or teacher.shape != student.shape or cells.dim() != 2 or cells.shape[1] != 5:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(cells.shape)}"
        raise ValueError(f"want equal (B, C, H, W) maps and (N, 5) cells, got {got}")
    if cells.dtype != torch.int64:
        raise ValueError(f"want int64 cells, got {cells.dtype}")
    if on is not None and (on.shape != cells.shape[:1] or on.dtype != torch.bool):
        raise ValueError(f"want bool on of {len(cells)} rectangles, got {tuple(on.shape)} {on.dtype}")
    batch, channels, height, width = student.shape
    image, x1, y1, x2, y2 = cells.unbind(dim=1)
    inside = (image >= 0) & (image < batch) & (x1 >= 0) & (x2 <= width) & (y1 >= 0) & (y2 <= height)
    sound = inside & (x1 < x2) & (y1 < y2)
    _demand(sound, cells, (batch, height, width))
    student, teacher = full(student, teacher)
    squares = (student - teacher).square().sum(dim=1, dtype=torch.float64)  # (B, H, W)
    table = pad(squares, (1, 0, 1, 0)).cumsum(dim=1).cumsum(dim=2)  # (B, H + 1, W + 1), of all above and left
    crops = _sums(table, cells.where(sound[:, None], 0)).where(sound, torch.nan)  # (N,)
    if normalise:
        crops = crops / (max(1, channels) * (x2 - x1) * (y2 - y1))
    if on is not None:
        crops = crops.where(on, 0)
    return (crops.sum() / (2 * max(1, len(cells)))).to(student.dtype)


def _sums(table: Tensor, cells: Tensor) -> Tensor:
    """(N,) what lies inside each rectangle (N, 5) of a table of sums above and left."""
    image, x1, y1, x2, y2 = cells.unbind(dim=1)
    return table[image, y2, x2] - table[image, y1, x2] - table[image, y2, x1] + table[image, y1, x1]


def _demand(sound: Tensor, cells: Tensor, size: tuple[int, int, int]) -> None:
    """Name a rectangle that is not sound; elsewhere than on the CPU the host would wait to see one."""
    if cells.device.type == "cpu" and not sound.all():
        batch, height, width = size
        first = cells[~sound][0].tolist()
        raise ValueError(f"want filled rectangles on {batch} maps of {height} x {width} (H x W), got {first}")
