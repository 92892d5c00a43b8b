"""Structured knowledge against sums done one cell, and one pair of nodes, at a time."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_distill.losses.structured import pair_wise, pixel_wise

EACH = pytest.mark.parametrize("sigmoid", [False, True], ids=["softmax", "sigmoid"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)


def draw(*shapes: tuple[int, ...], seed: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def cell_by_cell(student: Tensor, teacher: Tensor, sigmoid: bool) -> float:
    """The pixel-wise formula in plain numbers; shares no code with the loss."""
    b, _, h, w = student.shape
    total = 0.0
    for image, y, x in itertools.product(range(b), range(h), range(w)):
        z_s, z_t = (maps[image, :, y, x].tolist() for maps in (student, teacher))
        if sigmoid:
            for s, t in zip(z_s, z_t, strict=True):
                p, q = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
                total -= p * math.log(q) + (1 - p) * math.log(1 - q)
        else:
            e_s, e_t = ([math.exp(z) for z in logits] for logits in (z_s, z_t))
            total -= sum(t / sum(e_t) * math.log(s / sum(e_s)) for s, t in zip(e_s, e_t, strict=True))
    return total / (h * w)


def nodes_of(image: list, scale: float) -> list[list[float]]:
    """The largest value of every window, one list of channels to the node."""
    height, width = len(image[0]), len(image[0][0])
    ky, kx = (max(1, int(scale * size)) for size in (height, width))
    corners = itertools.product(range(0, height, ky), range(0, width, kx))
    return [
        [max(value for row in channel[y : y + ky] for value in row[x : x + kx]) for channel in image]
        for y, x in corners
    ]


def norms_of(nodes: list[list[float]]) -> list[float]:
    return [math.sqrt(sum(value * value for value in node)) for node in nodes]


def pair_by_pair(student: Tensor, teacher: Tensor, scale: float, norms: list[list[float]] | None = None) -> float:
    """The pair-wise formula in plain numbers, with the student's own norms or with those given."""
    total = 0.0
    for b, images in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        s, t = (nodes_of(image, scale) for image in images)
        n_s, n_t = norms[b] if norms else norms_of(s), norms_of(t)
        for i, j in itertools.product(range(len(s)), repeat=2):
            a_s = sum(map(float.__mul__, s[i], s[j])) / (n_s[i] * n_s[j])
            a_t = sum(map(float.__mul__, t[i], t[j])) / (n_t[i] * n_t[j])
            total += (a_s - a_t) ** 2 / len(s) ** 2
    return total / len(student)


@pytest.mark.parametrize("scale", [0.5, 0.9])  # of one and two cells both leave a kernel of 1
def test_pair_wise_gives_the_value_worked_out_by_hand(scale: float):
    teacher = torch.tensor([[1.0, 0], [0, 1]]).T.reshape(1, 2, 1, 2)
    student = torch.tensor([[1.0, 0], [1, 0]]).T.reshape(1, 2, 1, 2)
    assert pair_wise(student, teacher, scale).item() == pytest.approx(0.5)  # a_12 and a_21 off by 1, of 4


def test_pixel_wise_at_the_teacher_is_its_entropy_with_no_gradient():
    probabilities = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).view(1, 3, 1, 1)
    student = probabilities.log().requires_grad_()
    loss = pixel_wise(student, probabilities.log())
    loss.backward()
    assert loss.item() == pytest.approx(0.801819, abs=1e-6)  # .7 * .356675 + .2 * 1.609438 + .1 * 2.302585
    assert student.grad.abs().max() < 1e-15


@EACH
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 1, 2, 3)], ids=str)
def test_pixel_wise_equals_the_formula_cell_by_cell(shape: tuple[int, ...], sigmoid: bool):
    student, teacher = draw(shape, shape)
    loss = pixel_wise(student, teacher, sigmoid)
    assert loss.item() == pytest.approx(cell_by_cell(student, teacher, sigmoid), rel=1e-10)
    assert torch.autograd.gradcheck(lambda s: pixel_wise(s, teacher, sigmoid), student)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@EACH
def test_pixel_wise_is_a_mean_over_cells_and_a_sum_over_images(sigmoid: bool):
    student, teacher = draw((2, 3, 4, 5), (2, 3, 4, 5))
    loss = pixel_wise(student, teacher, sigmoid)
    torch.testing.assert_close(pixel_wise(student.repeat(3, 1, 1, 1), teacher.repeat(3, 1, 1, 1), sigmoid), 3 * loss)
    torch.testing.assert_close(pixel_wise(student.repeat(1, 1, 2, 2), teacher.repeat(1, 1, 2, 2), sigmoid), loss)


@EACH
@settings(deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-3, 10), shift=st.floats(-5, 5))
def test_no_student_does_better_than_the_teacher(sigmoid: bool, seed: int, scale: float, shift: float):
    nudge, teacher = draw((2, 3, 2, 2), (2, 3, 2, 2), seed=seed)
    entropy = pixel_wise(teacher, teacher, sigmoid)
    assert pixel_wise(teacher + scale * nudge, teacher, sigmoid) >= entropy - 1e-10
    if not sigmoid:  # a softmax does not see what all its logits share
        torch.testing.assert_close(pixel_wise(teacher + shift, teacher), entropy)


@EACH
@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_classes_and_cells_may_be_reordered(sigmoid: bool, seed: int):
    student, teacher = draw((2, 4, 2, 3), (2, 4, 2, 3), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    classes, cells = torch.randperm(4, generator=generator), torch.randperm(6, generator=generator)
    moved = [maps[:, classes].flatten(2)[:, :, cells].view_as(maps) for maps in (student, teacher)]
    torch.testing.assert_close(pixel_wise(*moved, sigmoid), pixel_wise(student, teacher, sigmoid))


@EACH
@DTYPES
def test_pixel_wise_stays_finite_at_extreme_logits(dtype: torch.dtype, sigmoid: bool):
    student = torch.tensor([200.0, -200.0], dtype=dtype).view(1, 2, 1, 1).requires_grad_()
    loss = pixel_wise(student, -student.detach(), sigmoid)
    loss.backward()
    assert loss.item() == pytest.approx(400)  # 400 - 0, or 200 for each of two
    assert student.grad.isfinite().all()


SHAPES = pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((1, 1, 1, 2), (1, 1, 1, 2)),
        ((2, 3, 4, 6), (2, 5, 4, 6)),
        ((1, 4, 5, 7), (1, 2, 5, 7)),  # a last window that is cut at the border
    ],
    ids=str,
)


@SHAPES
@pytest.mark.parametrize("scale", [0.01, 0.3, 0.5, 1.0])
def test_pair_wise_equals_the_formula_pair_by_pair(student, teacher, scale: float):
    maps = draw(student, teacher)
    loss = pair_wise(*maps, scale)
    assert loss.item() == pytest.approx(pair_by_pair(*maps, scale), rel=1e-10, abs=1e-15)
    assert torch.autograd.grad(loss, maps[1], allow_unused=True) == (None,)


@SHAPES
def test_pair_wise_takes_the_gradient_at_fixed_norms(student, teacher):
    s, t = draw(student, teacher)
    (found,) = torch.autograd.grad(pair_wise(s, t, 0.3), s)
    norms = [norms_of(nodes_of(image, 0.3)) for image in s.tolist()]
    differences = torch.zeros_like(found)
    for at in itertools.product(*map(range, student)):
        ends = [s.detach().clone(), s.detach().clone()]
        ends[0][at] += 1e-5
        ends[1][at] -= 1e-5
        differences[at] = (pair_by_pair(ends[0], t, 0.3, norms) - pair_by_pair(ends[1], t, 0.3, norms)) / 2e-5
    torch.testing.assert_close(found, differences, rtol=1e-6, atol=1e-6)


def test_pair_wise_is_not_orthogonal_to_the_feature():
    student, teacher = draw((1, 3, 2, 2), (1, 3, 2, 2))
    (gradient,) = torch.autograd.grad(pair_wise(student, teacher), student)
    assert (gradient * student).sum().abs() > 0.1  # 0 for the gradient of a cosine


@pytest.mark.parametrize(
    ("size", "nodes"), [((4, 6), 4), ((2, 2), 4), ((1, 1), 1), ((5, 5), 9), ((3, 3), 9), ((8, 5), 2 * 3)], ids=str
)
def test_half_the_side_leaves_two_nodes_of_an_even_side_and_three_of_an_odd(size: tuple[int, int], nodes: int):
    teacher = -torch.ones(1, 1, *size)
    student = teacher.clone()
    student[..., 0, 0] = 1  # the largest of its window, so a node of cosine -1 with all others
    assert pair_wise(student, teacher).item() == pytest.approx(2 * (nodes - 1) * 2**2 / nodes**2)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), factor=st.floats(0.01, 100))
def test_neither_scale_nor_order_nor_rotation_of_channels_have_a_say(seed: int, factor: float):
    student, teacher = draw((2, 4, 2, 3), (2, 5, 2, 3), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    expected = pair_wise(student, teacher)
    torch.testing.assert_close(pair_wise(factor * student, teacher / factor), expected)
    order = torch.randperm(4, generator=generator)
    torch.testing.assert_close(pair_wise(student[:, order], teacher), expected)
    unpooled = pair_wise(student, teacher, 0.01)  # max pooling does not commute with a rotation
    turned = torch.einsum("dc,bchw->bdhw", rotation, student)
    torch.testing.assert_close(pair_wise(turned, teacher, 0.01), unpooled)
    assert pair_wise(factor * turned, student, 0.01).item() == pytest.approx(0, abs=1e-12)


def test_pair_wise_is_a_mean_over_images():
    student, teacher = draw((3, 2, 4, 6), (3, 4, 4, 6))
    single = [pair_wise(s[None], t[None]) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(pair_wise(student, teacher), sum(single) / 3)


@pytest.mark.parametrize("dead", ["one node", "student", "teacher", "both"])
def test_a_node_of_zeros_is_finite_and_gets_no_gradient(dead: str):
    student, teacher = (maps.detach().float() for maps in draw((2, 3, 4, 6), (2, 4, 4, 6)))
    if dead in ("student", "both"):
        student.zero_()
    if dead in ("teacher", "both"):
        teacher.zero_()
    student[..., :2, :3] = 0
    loss = pair_wise(student.requires_grad_(), teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.abs().max() < 10
    assert not student.grad[..., :2, :3].any()
    assert dead != "both" or loss.item() == 0


def test_pair_wise_is_zero_where_both_agree():
    (student,) = draw((2, 3, 4, 5))
    loss = pair_wise(student, student.detach().clone())
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_a_nan_is_not_taken_for_a_node_of_zeros():
    student, teacher = torch.ones(2, 1, 3, 4, 5)
    student[0, 1, 2, 3] = math.nan
    assert pair_wise(student, teacher).isnan()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_nothing_to_compare_gives_a_zero_that_trains(shape: tuple[int, ...]):
    for loss, other in ((pixel_wise, ()), (pixel_wise, (True,)), (pair_wise, ())):
        student = torch.zeros(shape, requires_grad=True)
        value = loss(student, torch.ones(shape), *other)
        value.backward()
        assert value.item() == 0
        assert student.grad.shape == shape


@pytest.mark.parametrize(("own", "other"), [(0, 3), (3, 0)])
def test_pairs_of_a_net_without_channels_give_a_zero_that_trains(own: int, other: int):
    student = torch.ones(1, own, 4, 4, requires_grad=True)
    value = pair_wise(student, torch.ones(1, other, 4, 4))
    value.backward()
    assert value.item() == 0
    assert student.grad.equal(torch.zeros_like(student))


@DTYPES
def test_sums_in_fp32_or_better(dtype: torch.dtype):
    wide = torch.promote_types(dtype, torch.float32)
    for loss, other in ((pixel_wise, ()), (pixel_wise, (True,)), (pair_wise, (0.2,))):
        student, teacher = (300 * maps.detach().to(dtype) for maps in draw(*[(2, 50, 10, 10)] * 2))  # overflows fp16
        value = loss(student.requires_grad_(), teacher, *other)
        value.backward()
        assert value.dtype == wide
        assert student.grad.dtype == dtype
        assert value.equal(loss(student.to(wide), teacher.to(wide), *other))
        with torch.autocast("cpu", torch.bfloat16):
            assert loss(student, teacher, *other).equal(value)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 3, 4, 5), (1, 3, 4, 5)), ((2, 3, 4, 5), (2, 3, 5, 4)), ((2, 3, 4, 5), (2, 3, 20)), ((3, 4, 5), (3, 4, 5))],
    ids=str,
)
def test_shapes_that_disagree_are_refused_and_named(student, teacher):
    for loss in (pixel_wise, pair_wise):
        with pytest.raises(ValueError, match="want") as error:
            loss(torch.zeros(student), torch.zeros(teacher))
        assert all(str(shape) in str(error.value) for shape in (student, teacher))


def test_channels_may_differ_between_pairs_and_not_between_pixels():
    student, teacher = torch.ones(2, 3, 4, 5), torch.ones(2, 6, 4, 5)
    assert pair_wise(student, teacher).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\), \(2, 6, 4, 5\)"):
        pixel_wise(student, teacher)


@pytest.mark.parametrize("scale", [0.0, -0.5, 2.0])
def test_a_scale_out_of_range_is_refused_and_named(scale: float):
    with pytest.raises(ValueError, match=rf"scale={scale} is not in \(0, 1\]"):
        pair_wise(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), scale)
