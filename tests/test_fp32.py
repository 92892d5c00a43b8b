"""What every loss does with its dtypes before it computes."""

import pytest
import torch

from det_distill.fp32 import common, full


@pytest.mark.parametrize(
    ("student", "teacher", "both"),
    [
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float32, torch.float32),
        (torch.float64, torch.float32, torch.float64),
        (torch.float16, torch.float64, torch.float64),
    ],
    ids=str,
)
def test_two_nets_meet_in_the_dtype_that_holds_both_the_teacher_detached(student, teacher, both: torch.dtype):
    s, t = torch.ones(2, dtype=student, requires_grad=True), torch.ones(2, dtype=teacher, requires_grad=True)
    ours, theirs = full(s, t)
    assert ours.dtype == theirs.dtype == common(s, t) == common(t, s) == both
    assert ours.requires_grad
    assert not theirs.requires_grad
