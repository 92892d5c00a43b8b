"""A long run takes no more memory than a short one, a step leaves no map behind, and its peak has a bound."""

import gc
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from torch import Tensor

import tiny
from det_distill.bench.memory import living, peak
from det_distill.dry_run import begun, made_up

ADAPTER = dict(type="ConvAdapter", kernel=1)
MANY = dict(
    imitation=tiny.imitation(),
    proposals=dict(type="ProposalMimic", tap="neck", weight=0.1),
    soft=dict(type="SoftLabels", head="roi", weight=0.1),
    rpn=dict(type="SoftLabels", head="rpn", weight=0.1),
    bounded=dict(type="BoundedRegression", head="roi"),
    attention=dict(type="AttentionTransfer", tap="backbone", weight=0.1),
    selectivity=dict(type="NeuronSelectivity", tap="neck", weight=0.1, adapter=ADAPTER),
    distances=dict(type="DistanceRelation", weight=0.1),
    pairs=dict(type="PairWise", tap="neck", weight=0.1),
)
KEEPING = dict(  # terms with a memory of their own
    critic=dict(type="Holistic", tap="neck", adapter=ADAPTER, size=8, width=4, weight=0.1),
    neurons=dict(type="NeuronSelection", budget=4, samples=20, weight=0.1),
)
HINT = dict(terms=["imitation"], task_loss=False, train=["backbone"])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(12, 24))


def distiller(teacher: dict[str, str], **model: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, **model)).train()


def wrapper(model: Any) -> Any:
    return build_optim_wrapper(model, dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-4, momentum=0.9)))


def taken(model: Any, optim: Any, seed: int = 0) -> None:
    model.train_step(tiny.batch(size=(64, 96), seed=seed), optim)


# ------------------------------------------------------------ growth


@pytest.mark.parametrize(
    ("steps", "model"),
    [
        pytest.param(500, dict(terms=MANY), id="many terms", marks=pytest.mark.slow),
        pytest.param(60, dict(terms=KEEPING), id="critic and neurons"),
        pytest.param(60, dict(stages=[dict(until=1, **HINT), dict()]), id="stages"),
    ],
)
def test_nothing_accumulates(teacher, steps, model):
    model = distiller(teacher, **model)
    optim, counts = wrapper(model), {}
    for step in range(1, steps + 1):
        if model.stages.all:
            model.stages.enter(step % 2)
        taken(model, optim, seed=step % 7)
        if step in (20, steps):
            model.student.rpn_head._raw_positive_infos.clear()  # MMDetection's own, of the last step and as long as it
            counts[step] = living()
    assert counts[20] == counts[steps]


def test_the_count_sees_a_tensor_that_is_kept(teacher):
    """The judge can fail: one small tensor a step."""
    model, kept = distiller(teacher), []
    optim = wrapper(model)
    taken(model, optim)
    taken(model, optim)
    tensors, size = living()
    kept.append(torch.ones(1000))
    assert living() == (tensors + 1, size + 4000)


# ------------------------------------------------------------ what a step leaves behind


class Watched:
    """Weak references to every map that the trunks of both nets return."""

    def __init__(self, model: Any) -> None:
        self.seen: list[Any] = []
        for net in (model.student, model.teacher.detector):
            for part in (net.backbone, net.neck):
                part.register_forward_hook(self.hook)

    def hook(self, _module: Any, _args: Any, maps: tuple[Tensor, ...]) -> None:
        self.seen += map(weakref.ref, maps)

    def alive(self, nets: int = 2) -> int:
        assert len(self.seen) == nets * (4 + 5)  # so that many ran
        return sum(one() is not None for one in self.seen)


def hooks_of(model: Any) -> int:
    nets = (model.student, model.teacher.detector)
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for net in nets for one in net.modules())


@pytest.fixture
def no_collector():
    """Whatever goes must go by itself, at once."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_after_a_step_no_map_of_either_net_is_alive(teacher, no_collector):
    model = distiller(teacher, terms=MANY)
    optim, watched = wrapper(model), Watched(model)
    before = hooks_of(model)
    taken(model, optim)
    assert watched.alive() == 0
    assert hooks_of(model) == before


@pytest.mark.parametrize(("where", "nets"), [("student", 1), ("term", 2)])
def test_after_an_error_inside_a_step_neither(teacher, no_collector, where, nets):
    model = distiller(teacher, terms=MANY)
    optim, watched = wrapper(model), Watched(model)
    before = hooks_of(model)

    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError

    if where == "student":  # while its taps are being recorded
        model.student.roi_head.bbox_head.loss_and_target = fail
    else:
        model.terms["distances"].forward = fail
    try:
        taken(model, optim)
        pytest.fail("no error")
    except ArithmeticError:
        assert watched.alive(nets) > 0  # the traceback still holds them
    assert watched.alive(nets) == 0
    assert hooks_of(model) == before


# ------------------------------------------------------------ peak


def test_the_peak_is_that_of_the_fullest_moment():
    x = torch.ones(1000)  # 4000 bytes, from before
    assert peak(lambda: x + x) == 4000
    assert peak(lambda: ((x + x) + x).sum()) == 8000  # the first is gone before there is a sum
    assert peak(lambda: [x.double(), x.double()][0].sum()) == 16000


def tensors_in(value: Any) -> dict[int, int]:
    """Storages in nested containers: bytes by address."""
    if isinstance(value, Tensor):
        return {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()}
    parts = value.values() if isinstance(value, dict) else value
    return {place: size for part in parts for place, size in tensors_in(part).items()}


def megabytes(name: str, shape: tuple[int, int] = (240, 320), images: int = 4) -> dict[str, float]:
    """Peaks of the student's own step, the teachers' forward pass and the distilled step; and what is tapped."""
    model = tiny.shipped_distiller(name)
    begun(model)
    inputs, samples = made_up(shape, images)
    calls: list[Any] = []
    watch = model.teachers.watch

    def step(losses: Any) -> None:
        model.parse_losses(losses)[0].backward()

    def distilled() -> None:
        step(model.loss(inputs, samples))

    def measured(call: Any) -> float:
        torch.manual_seed(0)
        found = peak(call) / 1e6
        model.zero_grad()
        return found

    with patch.object(model.teachers, "watch", lambda *args: calls.append(args) or watch(*args)):
        distilled()  # also warms up, for anchors are made once
    model.zero_grad()
    [(whole, given, asked, *boxes)] = [call for call in calls if call[2]]
    rois = boxes[0].detach() if boxes else None
    shown = watch(whole, given, asked, rois)
    tapped = sum(tensors_in([[shown[who][name] for name in names] for who, names in asked.items()]).values()) / 1e6
    del shown, calls[:]
    return dict(
        student=measured(lambda: step(model.student.loss(*model.shrink(inputs, samples)[1:]))),
        teacher=measured(lambda: watch(whole, given, asked, rois)),
        tapped=tapped,
        distilled=measured(distilled),
    )


FIRST = ["fgfi", "li", "at"]  # their teachers look before the student does, and what they need is gone by then
FEW = ["fgfi", "hinton", "structured"]  # the others take long, and meet the same code
SHIPPED = ["fgfi", "li", "hinton", "at", "nst", "rkd", "structured"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [one if one in FEW else pytest.param(one, marks=pytest.mark.heavy) for one in SHIPPED]
)
def test_a_distilled_step_needs_at_most_the_students_the_teachers_and_what_is_tapped(method):
    found = megabytes(f"{method}/bccd_r18_r18-half", shape=(120, 160), images=2)
    assert found["distilled"] <= found["student"] + found["teacher"] + found["tapped"]
    assert 0 < found["tapped"] < found["teacher"]
    if method in FIRST:
        assert found["distilled"] <= 1.05 * max(found["student"] + found["tapped"], found["teacher"])


if __name__ == "__main__":  # the table, of the configs' own images: python tests/test_memory.py, with tests on the path
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        for method in SHIPPED:
            print(
                Path(method), {key: round(value, 1) for key, value in megabytes(f"{method}/bccd_r18_r18-half").items()}
            )
