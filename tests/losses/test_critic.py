"""The critic and its losses against critics whose gradients are known, and against sums done cell by cell."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from det_distill.losses.critic import Critic, SelfAttention, critic_loss, holistic

DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)


def draw(*shape: int, seed: int = 7) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def small(channels: int = 2, dtype: torch.dtype = torch.float64) -> Critic:
    """A critic whose attention is awake."""
    torch.manual_seed(7)
    critic = Critic(channels, size=8, width=2)
    for layer in critic.layers:
        if isinstance(layer, SelfAttention):
            nn.init.constant_(layer.gamma, 0.7)
    return critic.to(dtype)


class Linear(nn.Module):
    """Scores that add up weighted cells: the gradient is the weight, wherever."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, maps: Tensor) -> Tensor:
        return (maps * self.weight).sum(dim=(1, 2, 3))


class Energy(nn.Module):
    """Half the sum of squares: the gradient is the map itself. Remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, maps: Tensor) -> Tensor:
        self.seen.append(maps.detach().clone())
        return maps.square().sum(dim=(1, 2, 3)) / 2


def test_gives_the_loss_of_a_linear_critic_worked_out_by_hand():
    critic = Linear(torch.tensor([3.0, 4.0]).view(1, 1, 2))
    student = torch.tensor([[1.0, 0.0], [2.0, 1.0]]).view(2, 1, 1, 2)  # scores 3 and 10
    teacher = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(2, 1, 1, 2)  # scores 4 and 3
    loss = critic_loss(critic, student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(163)  # 6.5 - 3.5 + 10 * (5 - 1)^2
    # mean S - mean T = (1, 0), and 10 * 2 * (5 - 1) * w / 5 = (48, 64)
    assert critic.weight.grad.flatten().tolist() == pytest.approx((49, 64))
    assert critic_loss(critic, student, teacher, penalty=0.5).item() == pytest.approx(11)
    assert holistic(critic, student).item() == pytest.approx(-6.5)
    assert holistic(critic, student[:1]).item() == pytest.approx(-3)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 4, 5)], ids=str)
def test_equals_the_formula_where_the_gradient_is_the_map(shape: tuple[int, ...]):
    critic = Energy()
    student, teacher = draw(*shape)
    loss = critic_loss(critic, student, teacher, penalty=2.0)
    mixed = critic.seen[0].tolist()
    total = 0.0
    for s, t, x in zip(student.flatten(1).tolist(), teacher.flatten(1).tolist(), mixed, strict=True):
        x = torch.tensor(x, dtype=torch.float64).flatten().tolist()
        share = (x[0] - s[0]) / (t[0] - s[0])
        assert 0 <= share < 1
        assert x == pytest.approx([share * b + (1 - share) * a for a, b in zip(s, t, strict=True)])
        total += sum(v * v for v in s) / 2 - sum(v * v for v in t) / 2
        total += 2 * (math.sqrt(sum(v * v for v in x)) - 1) ** 2
    assert loss.item() == pytest.approx(total / shape[0], rel=1e-12)


def test_every_image_is_mixed_by_a_share_of_its_own():
    critic = Energy()
    critic_loss(critic, torch.zeros(200, 1, 2, 2), torch.ones(200, 1, 2, 2))
    shares = critic.seen[0]
    assert shares.equal(shares[:, :, :1, :1].expand_as(shares))
    assert shares[:, 0, 0, 0].unique().numel() > 190
    assert shares.mean().item() == pytest.approx(0.5, abs=0.1)


def test_attention_equals_sums_done_cell_by_cell():
    torch.manual_seed(7)
    attention = SelfAttention(16).double()
    nn.init.constant_(attention.gamma, 0.7)
    maps, _ = (x.detach() for x in draw(2, 16, 2, 3))
    found = attention(maps).flatten(2)
    for image, after in zip(maps.flatten(2), found, strict=True):
        cells = [image[:, i] for i in range(6)]
        query, key, value = (
            [layer.weight[:, :, 0, 0] @ cell + layer.bias for cell in cells]
            for layer in (attention.query, attention.key, attention.value)
        )
        assert query[0].shape == (2,)  # an eighth
        for i in range(6):
            likeness = [math.exp(sum((a * b).item() for a, b in zip(query[i], k, strict=True))) for k in key]
            mean = sum(w / sum(likeness) * v for w, v in zip(likeness, value, strict=True))
            torch.testing.assert_close(after[:, i], cells[i] + 0.7 * mean)


def test_attention_begins_asleep_and_can_wake():
    attention = SelfAttention(16)
    maps = torch.randn(2, 16, 3, 3)
    assert attention(maps).equal(maps)
    attention(maps).square().sum().backward()
    assert attention.gamma.grad.abs() > 0


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 3), height=st.integers(1, 70), width=st.integers(1, 70))
def test_one_score_an_image_whatever_the_maps_size(batch: int, height: int, width: int):
    maps = torch.ones(batch, 2, height, width)
    scores = small(dtype=torch.float32).eval()(maps)
    assert scores.shape == (batch,)
    torch.testing.assert_close(scores, small(dtype=torch.float32).eval()(torch.ones(batch, 2, 8, 8)))


def test_the_default_size_gives_one_score_too():
    assert Critic(5)(torch.ones(2, 5, 13, 20)).shape == (2,)


def test_attends_before_the_third_convolution():
    kinds = [type(layer).__name__ for layer in Critic(5).layers]
    halving = ["ParametrizedConv2d", "LeakyReLU"]
    assert kinds == [*halving, *halving, "SelfAttention", *halving, "Conv2d"]


def test_a_map_is_resized_bilinearly():
    critic = small().eval()
    maps, _ = draw(3, 2, 8, 16)
    between = (maps[..., ::2] + maps[..., 1::2]) / 2  # half the width: each new cell lies between two old ones
    torch.testing.assert_close(critic(maps), critic(between))


def test_no_image_minds_its_neighbours():
    critic = small().eval()
    student, teacher = draw(4, 2, 9, 7)
    scores = critic(student)
    torch.testing.assert_close(scores[[2, 0, 3, 1]], critic(student[[2, 0, 3, 1]]))
    torch.testing.assert_close(scores, torch.cat([critic(image[None]) for image in student]))


def test_strided_convolutions_have_spectral_norm_one():
    critic = Critic(3)
    critic(torch.ones(1, 3, 8, 8))
    strided = [layer for layer in critic.layers if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert [layer.out_channels for layer in strided] == [32, 64, 128]
    for layer in strided:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.1)
    assert [layer.negative_slope for layer in critic.layers if isinstance(layer, nn.LeakyReLU)] == [0.1] * 3


def test_the_critic_learns_and_both_nets_do_not():
    critic = small()
    student, teacher = draw(3, 2, 9, 7)
    critic_loss(critic, student, teacher).backward()
    assert student.grad is None
    assert teacher.grad is None
    for name, parameter in critic.named_parameters():
        assert parameter.grad.isfinite().all(), name
    moved = [name for name, parameter in critic.named_parameters() if parameter.grad.any()]
    assert len(moved) >= len(list(critic.parameters())) - 2  # two biases shift scores or keys alike


def test_the_student_learns_and_the_critic_does_not():
    critic = small()
    student, _ = draw(3, 2, 9, 7)
    holistic(critic, student).backward()
    assert student.grad.isfinite().all()
    assert all(image.any() for image in student.grad)
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())


def test_the_students_step_raises_its_scores():
    critic = small().eval()
    student, _ = draw(3, 2, 9, 7)
    holistic(critic, student).backward()
    assert (critic(student - 0.1 * student.grad) > critic(student)).all()
    assert holistic(critic, student).item() == pytest.approx(-sum(critic(student).tolist()) / 3)


def test_gradients_pass_the_check():
    critic = small().eval()  # the power iteration of training changes the weights from call to call
    student, teacher = draw(2, 2, 5, 4)
    assert torch.autograd.gradcheck(lambda s: holistic(critic, s), student)

    def seeded(weight: Tensor) -> Tensor:
        torch.manual_seed(3)
        changed = copy.deepcopy(critic)
        last = changed.layers[-1]
        del last.weight
        last.weight = weight
        return critic_loss(changed, student, teacher)

    weight = critic.layers[-1].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(seeded, weight)


def test_learning_tells_two_fixed_maps_apart():
    torch.manual_seed(7)
    critic = Critic(2, size=8, width=4)
    student, teacher = (maps.detach().float() for maps in draw(4, 2, 8, 8))
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.01)
    before = critic_loss(critic, student, teacher).item()
    for _ in range(30):
        optimiser.zero_grad()
        critic_loss(critic, student, teacher).backward()
        optimiser.step()
    assert critic_loss(critic, student, teacher).item() < before - 1
    assert (critic(teacher).min() > critic(student).max()).item()


def test_comes_back_from_its_state_and_from_a_copy():
    critic, other = small(), Critic(2, size=8, width=2).double()
    student, teacher = draw(3, 2, 9, 7)
    critic_loss(critic, student, teacher).backward()  # the power iteration has moved on
    other.load_state_dict(critic.state_dict())
    expected = critic.eval()(student)
    assert other.eval()(student).equal(expected)
    assert copy.deepcopy(critic)(student).equal(expected)


def test_a_critic_blind_to_its_maps_has_finite_gradients():
    critic = Linear(torch.zeros(1, 2, 2))
    student, teacher = (maps.detach().float() for maps in draw(3, 1, 2, 2))
    loss = critic_loss(critic, student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(10)  # 10 * (0 - 1)^2
    torch.testing.assert_close(critic.weight.grad, (student.mean(dim=0) - teacher.mean(dim=0)))


def test_no_images_give_zeros_that_train():
    critic = small()
    student = torch.zeros(0, 2, 9, 7, dtype=torch.float64, requires_grad=True)
    loss = holistic(critic, student)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == student.shape
    loss = critic_loss(critic, student, student)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in critic.parameters())


@DTYPES
def test_computes_in_fp32_or_better(dtype: torch.dtype):
    returned = torch.float64 if dtype == torch.float64 else torch.float32
    critic = small(dtype=returned).eval()
    student, teacher = (maps.detach().to(dtype) for maps in draw(3, 2, 9, 7))
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = holistic(critic, student)
        torch.manual_seed(3)
        judged = critic_loss(critic, student, teacher)
    value.backward()
    judged.backward()
    assert value.dtype == judged.dtype == returned
    assert student.grad.dtype == dtype
    assert value.item() == holistic(critic, student.to(returned)).item()
    torch.manual_seed(3)
    assert judged.item() == critic_loss(critic, student.to(returned), teacher.to(returned)).item()


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((4, 2, 8, 8), (1, 2, 8, 8)), ((4, 2, 8, 8), (4, 1, 8, 8)), ((2, 8, 8), (2, 8, 8)), ((), ())],
    ids=str,
)
def test_maps_that_disagree_are_refused_and_named(student, teacher):
    with pytest.raises(ValueError, match="want equal") as error:
        critic_loss(nn.Identity(), torch.zeros(student), torch.zeros(teacher))
    assert all(str(shape) in str(error.value) for shape in (student, teacher))
    if len(student) != 4:
        with pytest.raises(ValueError, match=r"want \(B, C, H, W\) maps, got ") as error:
            holistic(nn.Identity(), torch.zeros(student))
        assert str(student) in str(error.value)


@pytest.mark.parametrize("size", [0, 4, 20, -8])
def test_a_size_that_does_not_halve_thrice_is_refused_and_named(size: int):
    with pytest.raises(ValueError, match=f"multiple of 8, got size={size}"):
        Critic(2, size=size)
