"""Which channels are one, in nets of a few lines, told by hand."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import linear

from det_distill.inheritance.channels import Channels, channels_of, united
from det_distill.inheritance.places import Counterparts
from det_distill.views.base import View

IMAGE = 3


class Toy(nn.Module):
    """Layers by name, and what to do with them."""

    def __init__(self, rule: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.rule, self.layers = rule, nn.ModuleDict(layers)

    def forward(self, image: Tensor) -> Any:
        return self.rule(self.layers, image)

    @property
    def detector(self) -> nn.Module:
        return self

    def run(self, image: Tensor, _names: Any, _rois: Any, whole: bool) -> None:
        self(image)


def channels(rule: Callable[..., Any], **widths: tuple[int, int]) -> Channels:
    """Of a net of 1x1 convolutions of so many inputs and outputs."""
    net = Toy(rule, **{name: nn.Conv2d(*sizes, 1) for name, sizes in widths.items()})
    return channels_of(cast(View, net))


def written(found: Channels, name: str) -> list[int]:
    return found.written[f"layers.{name}"].tolist()


def free(found: Channels, name: str) -> list[bool]:
    return found.free[found.written[f"layers.{name}"]].tolist()


def test_a_sum_is_of_one_and_what_reads_it_reads_that():
    found = channels(lambda m, x: m.c(m.a(x) + m.b(x)), a=(IMAGE, 4), b=(IMAGE, 4), c=(4, 2))
    assert written(found, "a") == written(found, "b") == found.read["layers.c"].tolist()
    assert len({*written(found, "a")}) == 4
    assert free(found, "a") == [True] * 4
    assert free(found, "c") == [False] * 2  # nobody reads it
    assert "layers.a" not in found.read  # but an image


def test_a_layer_that_is_called_twice_reads_one():
    found = channels(lambda m, x: (m.c(m.a(x)), m.c(m.b(x))), a=(IMAGE, 4), b=(IMAGE, 4), c=(4, 2))
    assert written(found, "a") == written(found, "b")


@pytest.mark.parametrize("axis", [1, -3])
def test_side_by_side_each_keeps_its_own(axis: int):
    found = channels(lambda m, x: m.c(torch.cat((m.b(x), m.a(x)), dim=axis)), a=(IMAGE, 4), b=(IMAGE, 2), c=(6, 1))
    assert found.read["layers.c"].tolist() == written(found, "b") + written(found, "a")
    assert free(found, "a") + free(found, "b") == [True] * 6
    kinds = [{*found.kinds[found.written[f"layers.{name}"]].tolist()} for name in "ab"]
    assert len(kinds[0]) == len(kinds[1]) == 1
    assert kinds[0] != kinds[1]


def test_images_in_one_batch_are_not_side_by_side():
    found = channels(lambda m, x: m.c(torch.cat((m.a(x), m.b(x)))), a=(IMAGE, 4), b=(IMAGE, 4), c=(4, 1))
    assert written(found, "a") == written(found, "b")


def test_a_gate_of_one_channel_is_for_all():
    found = channels(lambda m, x: m.c(m.a(x) * m.b(x).sigmoid()), a=(IMAGE, 4), b=(IMAGE, 1), c=(4, 1))
    assert free(found, "a") == [True] * 4


def test_a_channel_that_is_two_of_one_layer_stays():
    """a's third is summed with b's first, and b's first with a's first: a's could not change places alone."""
    rule = lambda m, x: m.c(torch.cat((m.a(x), m.b(x)), 1) + torch.cat((m.b(x), m.a(x)), 1))  # noqa: E731
    found = channels(rule, a=(IMAGE, 4), b=(IMAGE, 2), c=(6, 1))
    first, second, *other = written(found, "a")
    assert [first, second] == other == written(found, "b")
    assert not any(free(found, "a"))


KNOWING = {
    "a part": lambda m, x: m.c(m.a(x)[:, 1:]),
    "a product in no module": lambda m, x: m.d(linear(m.a(x).movedim(1, -1), torch.ones(4, 4)).movedim(-1, 1)),
    "the mean": lambda m, x: m.c(m.a(x).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)),
    "a sum of parts": lambda m, x: m.c(m.a(x)[:, 1:] + m.b(x)),
}


@pytest.mark.parametrize("kind", KNOWING)
def test_what_is_read_by_number_stays(kind: str):
    found = channels(lambda m, x: (KNOWING[kind](m, x), m.d(m.a(x))), a=(IMAGE, 4), b=(IMAGE, 3), c=(3, 1), d=(4, 1))
    assert not any(free(found, "a"))
    assert "layers.c" not in found.read
    assert "layers.b" not in found.written or not any(free(found, "b"))


def test_norms_and_depthwise_convolutions_scale_what_they_are_given():
    rule = lambda m, x: m.c(m.deep(m.norm(m.a(x))))  # noqa: E731
    layers = dict(
        a=nn.Conv2d(IMAGE, 4, 1),
        norm=nn.BatchNorm2d(4),
        deep=nn.Conv2d(4, 4, 3, groups=4),
        c=nn.Conv2d(4, 1, 1),
    )
    found = channels_of(cast(View, Toy(rule, **layers)))
    for name in ("norm", "deep", "c"):
        assert found.read[f"layers.{name}"].tolist() == written(found, "a")
        assert (f"layers.{name}" in found.written) is (name == "c")
    assert free(found, "a") == [True] * 4


def side_by_side(width: int, parts: int = 2, kernel: int = 1) -> Toy:
    widths = {f"part{number}": nn.Conv2d(IMAGE, width, 1) for number in range(parts)}
    rule = lambda m, x: m.end(torch.cat([m[name](x) for name in widths], 1))  # noqa: E731
    return Toy(rule, **widths, end=nn.Conv2d(parts * width, 5, kernel))


def counterparts(student: Toy, teacher: Toy) -> Counterparts:
    return Counterparts(channels_of(cast(View, student)), channels_of(cast(View, teacher)))


def test_a_part_of_a_weight_has_the_first_of_each_map():
    student, teacher = side_by_side(2), side_by_side(3)
    found = counterparts(student, teacher)
    whole = torch.arange(30.0).view(5, 6, 1, 1)
    own = found.part("layers.end", whole, (5, 4, 1, 1))
    assert own is not None
    assert own.equal(whole[:, [0, 1, 3, 4]])
    assert found.part("layers.part0", torch.zeros(3, 3, 1, 1), (2, 3, 1, 1)) is not None


def test_what_a_teacher_has_not_is_no_part():
    wide, narrow = side_by_side(3), side_by_side(2)
    assert counterparts(wide, narrow).part("layers.end", torch.zeros(5, 4, 1, 1), (5, 6, 1, 1)) is None
    found = counterparts(narrow, wide)
    assert found.part("layers.end", torch.zeros(5, 6, 3, 3), (5, 4, 1, 1)) is None  # another kernel
    assert found.part("layers.end", torch.zeros(5, 6), (5, 4, 1, 1)) is None


def test_of_more_maps_there_is_no_part():
    found = counterparts(side_by_side(2), side_by_side(3, parts=3))
    assert found.part("layers.end", torch.zeros(5, 9, 1, 1), (5, 4, 1, 1)) is None


def test_a_shallower_net_has_the_first_of_what_lies_in_the_same_place():
    """What lies beside b comes of the last block: of the teacher's second, of the student's only one."""

    def blocks(width: int, depth: int) -> Toy:
        layers: dict[str, nn.Module] = {f"block{number}": nn.Conv2d(width, width, 1) for number in range(depth)}
        layers |= dict(a=nn.Conv2d(3, width, 1), b=nn.Conv2d(3, width, 1), end=nn.Conv2d(2 * width, 5, 1))

        def rule(m: Any, x: Tensor) -> Any:
            left = m.a(x)
            for number in range(depth):
                left = m[f"block{number}"](left)
            return m.end(torch.cat((left, m.b(x)), 1))

        return Toy(rule, **layers)

    whole = torch.arange(30.0).view(5, 6, 1, 1)
    own = counterparts(blocks(2, 1), blocks(3, 2)).part("layers.end", whole, (5, 4, 1, 1))
    assert own is not None
    assert own.equal(whole[:, [0, 1, 3, 4]])


@pytest.mark.parametrize(("cells", "fits"), [(4, True), (1, False)])
def test_a_map_laid_flat_has_the_first_channels_whole(cells: int, fits: bool):
    def flat(width: int, cells: int) -> Toy:
        size = int(cells**0.5)
        rule = lambda m, x: m.fc(nn.functional.adaptive_avg_pool2d(m.a(x), size).flatten(1))  # noqa: E731
        return Toy(rule, a=nn.Conv2d(3, width, 1), fc=nn.Linear(width * cells, 5))

    whole = torch.arange(60.0).view(5, 12)
    own = counterparts(flat(2, cells), flat(3, 4)).part("layers.fc", whole, (5, 2 * cells))
    assert (own is not None) is fits
    assert own is None or own.equal(whole[:, :8])


def test_a_gate_of_two_maps_is_no_part_of_a_gate_of_one():
    def gated(rule: Callable[..., Any], **widths: tuple[int, int]) -> Toy:
        return Toy(rule, **{name: nn.Conv2d(*sizes, 1) for name, sizes in widths.items()})

    two = gated(lambda m, x: m.end(m.g(x) * torch.cat((m.a(x), m.b(x)), 1)), a=(3, 2), b=(3, 2), g=(3, 4), end=(4, 1))
    one = gated(lambda m, x: m.end(m.g(x) * m.a(x)), a=(3, 6), g=(3, 6), end=(6, 1))
    found = counterparts(two, one)
    assert found.origin("layers.a").outputs.tolist() == [0, 1]
    assert found.origin("layers.g") is None
    assert found.part("layers.end", torch.zeros(1, 6, 1, 1), (1, 4, 1, 1)) is None


def test_a_layer_nobody_knows_of_gives_its_first():
    found = counterparts(side_by_side(2), side_by_side(3))
    own = found.part("mask_head", torch.arange(12.0).view(4, 3), (2, 2))
    assert own is not None
    assert own.tolist() == [[0, 1], [3, 4]]
    assert found.part("mask_head", torch.zeros(4, 3), (5, 2)) is None
    assert found.origin("mask_head") is None


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12), st.integers(0, 12))
def test_what_is_united_is_what_a_loop_finds(pairs: list[tuple[int, int]], cut: int):
    number = [*range(8)]
    for one, other in pairs:
        old, new = number[other], number[one]
        number = [new if value == old else value for value in number]
    sides = [torch.tensor(some, dtype=torch.long).view(-1, 2).unbind(1) for some in (pairs[:cut], pairs[cut:])]
    found = united(8, [(one, other) for one, other in sides]).tolist()
    assert [[a == b for a in found] for b in found] == [[a == b for a in number] for b in number]
    assert {*found} == {*range(len({*number}))}
