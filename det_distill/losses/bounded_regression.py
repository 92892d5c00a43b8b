"""Box regression that the teacher only bounds (Chen et al., NIPS 2017)."""

import torch
from torch import Tensor

from det_distill.fp32 import full


def bounded_regression(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    margin: float = 0.0,
    count: int | None = None,
    on: Tensor | None = None,
) -> Tensor:
    r"""The student's squared error, of those boxes where it is not better than the teacher's by the margin.

    .. math:: \frac{1}{\max(1, N)} \sum_i e^s_i\,[e^s_i + m > e^t_i], \quad e = \lVert R - y \rVert^2

    All or nothing, and strict: at :math:`e^s + m = e^t` a box costs 0. What a box pays is its distance to the
    ground truth; the teacher's answer is never a target. N counts boxes, the four deltas are summed.

    Args:
        student: (P, 4), encoded deltas of boxes.
        teacher: (P, 4), deltas of the same boxes in the same code; detached here.
        target: (P, 4), encoded ground truth of the same boxes.
        margin: m, in squared deltas.
        count: N, the number of all sampled boxes, positive or not; P by default.
        on: (P,), bool, true for the positive boxes, which alone can cost; all by default.

    Returns:
        Scalar, at least fp32, squared deltas per box; a differentiable 0 without boxes.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        Chen et al., NIPS 2017, where the margin has no number.

    Example:
        >>> far, near, truth = torch.full((1, 4), 2.0), torch.ones(1, 4), torch.zeros(1, 4)
        >>> bounded_regression(far, near, truth), bounded_regression(near, far, truth)
        (tensor(16.), tensor(0.))
    """
    if student.dim() != 2 or student.shape[1] != 4 or not student.shape == teacher.shape == target.shape:
        got = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(target.shape)}"
        raise ValueError(f"want equal (P, 4) deltas, got {got}")
    if on is not None and (on.shape != student.shape[:1] or on.dtype != torch.bool):
        raise ValueError(f"want bool on of {len(student)} boxes, got {tuple(on.shape)} {on.dtype}")
    student, teacher = full(student, teacher)
    truth = target.to(student.dtype)
    error, bound = ((deltas - truth).square().sum(dim=1) for deltas in (student, teacher))
    worse = error + margin > bound
    paid = error.where(worse if on is None else worse & on, 0)
    return paid.sum() / max(1, len(student) if count is None else count)
