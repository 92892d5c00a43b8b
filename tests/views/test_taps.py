"""Recording: everything that ran is seen, in order, and nothing stays attached."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from det_distill.views.taps import Recorder, cloned, submodule


class Head(nn.Module):
    """Two layers, the second of which rectifies the first's output in place."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, scale: float = 1) -> Tensor:
        return self.act(self.hidden(x)) * scale

    def targets(self, x: Tensor, shift: float = 0) -> Tensor:
        return x + shift


def attached(root: nn.Module) -> list[Any]:
    """Everything that could have been left on the modules: hooks of each kind, and instance attributes."""
    return [
        (name, {key: len(value) for key, value in vars(m).items() if "hooks" in key}, sorted(vars(m)))
        for name, m in root.named_modules()
    ]


@pytest.fixture
def head() -> Head:
    torch.manual_seed(0)
    return Head()


def test_records_what_each_call_of_a_module_returns_in_order(head: Head):
    xs = [torch.randn(n, 2) for n in (1, 2, 3)]
    with Recorder() as seen:
        seen.watch("out", head)
        outs = [head(x) for x in xs]
    assert len(seen.calls("out")) == 3
    assert all(a is b for a, b in zip(seen.calls("out"), outs, strict=True))


def test_records_picked_parts_of_inputs_and_outputs(head: Head):
    x = torch.randn(2, 2)
    with Recorder() as seen:
        seen.watch("in", head, lambda args, _: args[0])
        seen.watch("mean", head, lambda _, out: out.mean())
        out = head(x, scale=3.0)
    assert seen.calls("in")[0] is x
    assert seen.calls("mean")[0].equal(out.mean())


def test_records_what_a_method_returns_and_changes_neither_arguments_nor_result(head: Head):
    x = torch.randn(2, 2)
    with Recorder() as seen:
        seen.wrap("targets", head, "targets")
        returned = [head.targets(x), head.targets(x, shift=2.0)]
    assert [value.tolist() for value in returned] == [x.tolist(), (x + 2).tolist()]
    assert all(a is b for a, b in zip(seen.calls("targets"), returned, strict=True))


def test_what_never_ran_was_never_recorded(head: Head):
    with Recorder() as seen:
        seen.watch("out", head)
    assert seen.calls("out") == seen.calls("unknown") == ()


def test_calls_after_the_block_are_not_recorded(head: Head):
    with Recorder() as seen:
        seen.watch("out", head)
        seen.wrap("targets", head, "targets")
    head.targets(head(torch.zeros(1, 2)))
    assert seen.calls("out") == seen.calls("targets") == ()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_attached_even_when_the_block_fails(head: Head, fails: bool):
    before = attached(head)
    with pytest.raises(RuntimeError, match="mat1 and mat2") if fails else nullcontext(), Recorder() as seen:
        seen.watch("out", head)
        seen.watch("hidden", head.hidden)
        seen.wrap("targets", head, "targets")
        assert attached(head) != before
        head(torch.zeros(1, 5 if fails else 2))
    assert attached(head) == before
    assert head.targets.__func__ is Head.targets


def test_nested_recorders_leave_each_other_alone(head: Head):
    before = attached(head)
    with Recorder() as outer:
        outer.wrap("targets", head, "targets")
        outer.wrap("again", head, "targets")
        with Recorder() as inner:
            inner.wrap("targets", head, "targets")
            head.targets(torch.zeros(1))
        head.targets(torch.zeros(1))
    assert [len(seen.calls("targets")) for seen in (outer, inner)] == [2, 1]
    assert len(outer.calls("again")) == 2
    assert attached(head) == before


def test_a_clone_is_safe_from_a_following_relu_in_place(head: Head):
    x = torch.randn(4, 2)
    with Recorder() as seen:
        seen.watch("raw", head.hidden)
        seen.watch("safe", head.hidden, lambda _, out: cloned(out))
        head(x)
    expected = x @ head.hidden.weight.T + head.hidden.bias
    assert (expected < 0).any()
    torch.testing.assert_close(seen.calls("safe")[0], expected)
    torch.testing.assert_close(seen.calls("raw")[0], expected.clamp(min=0))  # why a clone is needed


def test_a_clone_keeps_structure_values_and_gradients():
    leaf = torch.ones(2, requires_grad=True)
    inside = cloned([leaf, (leaf * 2, "text", None)])
    assert isinstance(inside, tuple)
    assert inside[1][1:] == ("text", None)
    inside[1][0].sum().backward()
    assert leaf.grad.tolist() == [2, 2]
    assert inside[0] is not leaf


def test_finds_modules_by_dotted_path(head: Head):
    root = nn.Sequential(nn.Identity(), head)
    assert submodule(root, "1.hidden") is root.get_submodule("1.hidden")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("2.hidden", r"'Sequential' has no child '2'; it has '0', '1'"),
        ("1.hiden", r"'1' has no child 'hiden'; it has 'hidden', 'act'"),
        ("1.hidden.x", r"'1.hidden' has no child 'x'; it has no children"),
        ("", r"'Sequential' has no child ''"),
    ],
)
def test_a_wrong_path_names_the_children_where_it_breaks(head: Head, path: str, said: str):
    with pytest.raises(ValueError, match=f"no module '{path}': {said}"):
        submodule(nn.Sequential(nn.Identity(), head), path)
