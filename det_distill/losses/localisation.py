"""Where a box's sides may lie: distributions of their distances from a cell (Zheng et al., CVPR 2022)."""

from torch import Tensor
from torch.nn.functional import kl_div

from det_distill.fp32 import full


def localisation(student: Tensor, teacher: Tensor, confidence: Tensor, images: int, temperature: float) -> Tensor:
    r"""Divergence of the student's softened box distributions from the teacher's, each box by a confidence.

    .. math:: \frac{T^2}{\max(1, B)} \sum_n \frac{c_n}{4 R} \sum_{s=1}^{4} \sum_{r=1}^{R} q_{nsr}
        \log \frac{q_{nsr}}{p_{nsr}}, \quad p, q = \mathrm{softmax}(z / T)

    The mean over sides and bins, as MMDetection's `LDHead` has it, whose sum over the boxes of a process is B times
    this: its `loss_weight=0.25` at two images a process is `weight=0.5` here, and stays right at any other batch.

    Args:
        student: (N, 4, R) logits of R bins of each side's distance.
        teacher: (N, 4, R) logits for the same boxes; detached here.
        confidence: (N,), c; detached here.
        images: B, of the batch.
        temperature: T > 0.

    Returns:
        Scalar, at least fp32; a differentiable 0 without boxes.

    Raises:
        ValueError: If shapes disagree (nothing broadcasts).

    Source:
        arXiv:2102.12252, equations 3 and 4; MMDetection 3.3.0, `ld_head.py`.

    Example:
        >>> import torch
        >>> even, sure = torch.zeros(1, 4, 2), torch.tensor([1.0])
        >>> localisation(even, torch.tensor([1.098612, 0.0]).expand(1, 4, 2), sure, images=1, temperature=1.0)
        tensor(0.0654)
    """
    if student.dim() != 3 or student.shape[1] != 4 or teacher.shape != student.shape:
        raise ValueError(f"want equal (N, 4, R) logits, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    if confidence.shape != student.shape[:1]:
        raise ValueError(f"want a confidence (N,) of each of {len(student)} boxes, got {tuple(confidence.shape)}")
    own, its = (logits / temperature for logits in full(student, teacher))
    gaps = kl_div(own.log_softmax(dim=2), its.softmax(dim=2), reduction="none").mean(dim=(1, 2))
    return temperature**2 * (confidence.detach().to(gaps.dtype) * gaps).sum() / max(1, images)
