"""Fit student features to the teacher's channels."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import linear

from det_distill.building import build
from det_distill.masks.few import Cells


def fitting(cfg: Mapping[str, Any] | None, student: int, teacher: int, where: str) -> nn.Module:
    """The adapter that a config asks for between so many channels; None passes equal ones on as they are.

    Args:
        cfg: Config of an adapter; channels written there win.
        student: Channels of the student.
        teacher: Channels of the teacher.
        where: What is adapted, for the message.

    Raises:
        ValueError: No adapter, but unequal channels.
    """
    if cfg is not None:
        adapter: nn.Module = build(MODELS, dict(student_channels=student, teacher_channels=teacher) | dict(cfg))
        return adapter
    if student != teacher:
        raise ValueError(
            f"{where} has {student} channels on the student and {teacher} on the teacher; without an adapter they must "
            "be equal: set adapter=dict(type='ConvAdapter') for maps, dict(type='LinearAdapter') for vectors"
        )
    return nn.Identity()


@MODELS.register_module()
class ConvAdapter(nn.Module):
    """One convolution from the student's channels to the teacher's, the map's size kept.

    Args:
        student_channels: C of the student's map; inferred by the term that owns the adapter.
        teacher_channels: C of the teacher's map; inferred likewise.
        kernel: 1 or 3.
        relu: Rectify the result: for a teacher's map taken behind a ReLU. Pyramid levels are signed, so no.
        init_std: Standard deviation of the truncated normal weights (the imitation paper's code: 1e-4), with a bias of
            0; None keeps PyTorch's default.
        norm: Batch norm behind the convolution, which then has no bias: the connector of activation boundaries.
        identity: Begin with each of the student's channels as the teacher's of the same number, and 0 in those it has
            more: for a student that begins so too, by `WeightSelection`.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        kernel: int = 3,
        relu: bool = False,
        init_std: float | None = None,
        norm: bool = False,
        identity: bool = False,
    ) -> None:
        super().__init__()
        if identity and init_std is not None:
            raise ValueError(f"identity=True leaves nothing to draw, but init_std={init_std}; set one of them")
        if kernel not in (1, 3):
            raise ValueError(f"kernel={kernel}; an adapter's convolution is 1 or 3 wide")
        self.conv = nn.Conv2d(student_channels, teacher_channels, kernel, padding=kernel // 2, bias=not norm)
        self.norm = nn.BatchNorm2d(teacher_channels) if norm else nn.Identity()
        self.relu = relu
        if init_std is not None:
            nn.init.trunc_normal_(self.conv.weight, std=init_std, a=-2 * init_std, b=2 * init_std)
        elif identity:
            nn.init.dirac_(self.conv.weight)
        if self.conv.bias is not None and (identity or init_std is not None):
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_student, H, W) to (B, C_teacher, H, W)."""
        x = self.norm(self.conv(x))
        return torch.relu(x) if self.relu else x

    @property
    def local(self) -> bool:
        """Whether a cell depends on its neighbours alone; a batch norm's statistics are of all cells."""
        return isinstance(self.norm, nn.Identity)

    def at(self, x: Tensor, cells: Cells) -> Tensor:
        """(N, C_teacher), what `forward` gives in those cells, at the cost of these alone; for a `local` one.

        Args:
            x: (B, C_student, H, W).
            cells: Image, row and column of each, (N,), int64.
        """
        height, width = x.shape[2:]
        image, row, column = (one[:, None] for one in cells)
        k = self.conv.kernel_size[0]
        steps = torch.arange(k, device=x.device) - k // 2
        rows, columns = row + steps.repeat_interleave(k), column + steps.repeat(k)  # (N, k * k)
        beyond = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        around = x[image, :, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]  # (N, k * k, C_student)
        around = around.masked_fill(beyond[..., None], 0)
        out = linear(around.flatten(1), self.conv.weight.permute(0, 2, 3, 1).flatten(1), self.conv.bias)
        return torch.relu(out) if self.relu else out


@MODELS.register_module()
class LinearAdapter(nn.Module):
    """One fully connected layer from the student's vectors to the teacher's: for hints behind fully connected layers.

    Args:
        student_channels: Length of the student's vectors; inferred by the term that owns the adapter.
        teacher_channels: Length of the teacher's; inferred likewise.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(student_channels, teacher_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, student) to (N, teacher)."""
        out: Tensor = self.fc(x)
        return out
