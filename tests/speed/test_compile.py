"""MMEngine's `compile=dict(...)` on a distillation run: the same steps, and after the first few nothing is compiled."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

import tiny
from det_distill.masks import few
from det_distill.views.taps import Recorder

TERMS = dict(
    imitation=tiny.imitation(),
    soft=dict(type="WeightedSoftLabels", head="roi", weight=0.5),
    firing=dict(type="ActivationBoundary", weight=1e-4),
)


class Backend:
    """Runs what dynamo captured as it is, and counts how much it captured and how much of that ran."""

    def __init__(self) -> None:
        self.compiled = self.ran = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        self.compiled += 1

        def run(*args: Any) -> Any:
            self.ran += 1
            return graph.forward(*args)

        return run


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def steps(model: Any, count: int, backend: Any = None, change: Callable[[Any, int], None] | None = None) -> list[Any]:
    """Each step's losses and graphs: compiled in it, run in it. As `Runner` does, `train_step` is what is compiled."""
    model.train()
    optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    if backend is not None:
        model.train_step = torch.compile(model.train_step, backend=backend)
    told = []
    for step in range(count):
        if change:
            change(model, step)
        torch.manual_seed(step)
        if isinstance(backend, Backend):
            backend.compiled = backend.ran = 0
        losses = {name: one.item() for name, one in model.train_step(tiny.batch(seed=step), optimiser).items()}
        told.append((losses, getattr(backend, "compiled", 0), getattr(backend, "ran", 0)))
    return told


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    teacher = tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))
    return tiny.distiller(tiny.faster_rcnn(), teacher, terms=TERMS)


def built(cfg: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(deepcopy(cfg))


@pytest.fixture
def no_cells_are_few(monkeypatch: pytest.MonkeyPatch):
    """As always in compiled code: imitation sums over whole maps, whose last digit is another."""
    monkeypatch.setattr(few, "FEW", -1)


@pytest.mark.heavy
@pytest.mark.usefixtures("no_cells_are_few")
def test_steps_are_the_same_to_the_bit_and_soon_nothing_is_compiled_anew(model: dict[str, Any]):
    """Dynamo's part alone: what it captures runs as it is. Sizes and numbers of boxes vary from step to step."""
    plain, compiled = built(model), built(model)
    expected, told = steps(plain, 6), steps(compiled, 6, Backend())
    assert [one[0] for one in told] == [one[0] for one in expected]
    assert told[0][1] > 50
    assert sum(one[1] for one in told[2:]) <= 6  # a size met for the first time; a hundred each step would be a leak
    assert all(one[2] > 100 for one in told)  # and what was compiled is what runs
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(*pair) for pair in zip(compiled.parameters(), plain.parameters(), strict=True))
    MODELS.build(tiny.faster_rcnn()).load_state_dict(compiled.state_dict(), strict=True)


def come_and_go(model: Any, step: int) -> None:
    """First no term looks inside the backbone, then one does, and again."""
    for name, term in model.terms.items():
        term.weight = float((name == "firing") == (step % 2 == 1)) * 1e-4


@pytest.mark.heavy
@pytest.mark.usefixtures("no_cells_are_few")
def test_terms_that_come_and_go_see_the_batch_at_hand(model: dict[str, Any]):
    plain, compiled = built(model), built(model)
    expected, told = steps(plain, 4, None, come_and_go), steps(compiled, 4, Backend(), come_and_go)
    assert [one[0] for one in told] == [one[0] for one in expected]
    assert [one["loss_firing"] > 0 for one, *_ in told] == [False, True, False, True]


@pytest.mark.heavy
def test_aot_autograd_gives_the_same_steps(tmp_path):
    """The backward pass is traced too; a bare RPN keeps it short."""
    teacher = tiny.write_teacher(tmp_path, tiny.rpn(16, 24))
    cfg = tiny.distiller(tiny.rpn(), teacher, terms=dict(imitation=tiny.imitation()))
    expected, told = steps(built(cfg), 3), steps(built(cfg), 3, "aot_eager")
    for one, other in zip(told, expected, strict=True):
        assert one[0] == pytest.approx(other[0], rel=1e-5)


def test_a_recorder_in_compiled_code_sees_every_call_and_leaves_no_trace():
    """Hooks on a module inside, on and off, again and again: nothing stale, and two graphs at the most."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    backend = Backend()
    fast = torch.compile(net, backend=backend)
    for seed in range(6):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        with Recorder() as seen:
            if seed % 2:
                seen.watch("hidden", net[0])
                seen.last_inputs("given", net, [net[2]])
            out = fast(x)
        hidden = x @ net[0].weight.T + net[0].bias
        torch.testing.assert_close(out, hidden.relu() @ net[2].weight.T + net[2].bias)
        assert len(seen.calls("hidden")) == len(seen.calls("given")) == seed % 2
        if seed % 2:
            torch.testing.assert_close(seen.calls("hidden")[0], hidden)
            torch.testing.assert_close(seen.calls("given")[0][0], hidden.relu())
    assert backend.compiled <= 3
