"""What a term asks a GPU to wait for, seen without one: operations whose result the host must know to go on."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from terms.test_universal import WORKING, _id, built, on
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import det_distill
import tiny
from det_distill.losses.imitation import masked_imitation
from det_distill.masks import AnchorIoUMask, FullMask, GtBoxMask, Mask, PointMask
from det_distill.scene import Level, Scene

OURS = str(Path(det_distill.__file__).parent)
MADE_ON_THE_HOST = "scene.py"  # and copied without a wait, which the masks' own test sees
HARMLESS = ('device.type == "cpu" and', "self.optimizer.step()")  # asked of the CPU alone; counts its steps there
# How many boxes or cells there are to compare, only the device knows: one wait where a term chooses some.
WAITS = {
    "soft labels, rpn": 1,  # the sampled anchors
    "soft targets, rpn": 1,
    "boundary samples": 11,  # the samples both nets judge right, and after each of ten steps whether any is left
    "imitation": 1,  # the cells, where they are few; on a GPU also how many, which a CPU tells unseen
    "quantised imitation": 1,
    "neurons": 1,  # the boxes of objects
    "distances": 1,
    "angles": 3,  # and those of each image
    "ranking, hard": 1,
    "ranking, soft": 1,
    "triplets": 2,  # and the triplets
}


class Waits(TorchDispatchMode):
    """Counts what would wait, by the line of ours that asks for it; MMDetection's own lines are its own affair."""

    names = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount", "lift_fresh")

    def __init__(self, ours: str = OURS) -> None:
        super().__init__()
        self.ours, self.seen = ours, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        uneven = name == "repeat_interleave" and func._overloadname != "self_int"
        if name in self.names or by_mask or uneven:
            frame = [one for one in traceback.extract_stack()[:-1] if "/torch/" not in one.filename][-1]
            path = Path(frame.filename)
            ours = frame.filename.startswith(self.ours) and path.name != MADE_ON_THE_HOST
            if ours and not any(part in str(frame.line) for part in HARMLESS):
                self.seen[f"{name} at {path.name}:{frame.lineno}: {frame.line}"] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=["fpn", "c4"])
def waits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[str]]:
    """Of each term in its second step: what is made once, is made in the first."""
    names = [name for kind, name in WORKING if kind == request.param]
    terms = {_id(one): on(request.param, one) for one in names}
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = built(tmp_path_factory.mktemp("waits"), request.param, terms)
    data = tiny.batch()
    tiny.losses(model, data)
    found = {}
    for name in names:
        term = model.terms[_id(name)]
        term.register_forward_pre_hook(lambda *_, key=name: found.setdefault(key, Waits()).__enter__() and None)
        term.register_forward_hook(lambda *_, key=name: found[key].__exit__(None, None, None))
    tiny.losses(model, data)
    return {name: mode.seen for name, mode in found.items()}


def test_a_term_waits_only_where_it_chooses_boxes_or_cells(waits: dict[str, Counter[str]]):
    assert {name: seen for name, seen in waits.items() if seen.total() != WAITS.get(name, 0)} == {}


@pytest.mark.parametrize(
    "call",
    [
        lambda one: one.sum().item(),
        lambda one: bool((one > 1).any()),
        lambda one: one[one > 1],
        lambda one: one.clone().__setitem__(one > 1, torch.ones(1, dtype=torch.long)),
        lambda one: (one > 1).nonzero(),
        lambda one: one.new_tensor([1, 2]),
        lambda one: one.repeat_interleave(one),
        lambda one: one.unique(),
    ],
)
def test_every_kind_of_wait_is_seen(call: Callable[[Tensor], Any]):
    with Waits() as elsewhere, Waits(__file__) as here:
        call(torch.arange(3))
    assert elsewhere.seen.total() == 0
    assert here.seen.total() == 1


# ---------------------------------------------------------------- on a device that is only pretended


class Copies(TorchDispatchMode):
    """Counts what goes from the host to the device or back while the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        moved = name == "aten::_to_copy" and result.device != args[0].device and not kwargs.get("non_blocking")
        self.waited += moved or (name == "aten::lift_fresh" and result.device.type == "cuda")
        return result


@pytest.fixture
def device() -> Iterator[torch.device]:
    """A GPU without numbers: what depends on one raises."""
    with FakeTensorMode():
        try:
            torch.zeros(1, device="cuda").new_tensor([1])
        except RuntimeError as error:  # torch 2.6 asks for a driver even so
            pytest.skip(f"this torch pretends no GPU where there is none: {str(error).splitlines()[0]}")
        yield torch.device("cuda")


@pytest.mark.parametrize(
    "mask", [AnchorIoUMask(), GtBoxMask(), PointMask(), FullMask()], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("ignored", [0, 2])
def test_masks_and_imitation_wait_for_nothing(mask: Mask, ignored: int, device: torch.device):
    boxes = [torch.rand(count, 4, device=device) for count in (3, 0)]
    scene = Scene(boxes, [torch.rand(ignored, 4, device=device)] * 2, [(100, 120), (90, 128)])
    levels = [Level((16 // k, 16 // k), (8 * k, 8 * k), torch.rand(3, 4)) for k in (1, 2)]  # anchors are on the host
    with Copies() as copies:
        for on in mask(scene, levels):
            maps = torch.rand(2, 4, *on.shape[1:], device=device)
            masked_imitation(maps, maps, on)
    assert copies.waited == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda one: one.new_tensor([1, 2]),
        lambda one: torch.ones(2).to(one),
        lambda one: one.cpu(),
        lambda one: torch.tensor([2], device=one.device),
    ],
)
def test_every_kind_of_copy_is_seen(call: Callable[[Tensor], Any], device: torch.device):
    with Copies() as copies:
        call(torch.zeros(3, device=device))
    assert copies.waited == 1


@pytest.mark.parametrize("call", [lambda one: one.sum().item(), lambda one: one[one > 0], lambda one: bool(one.all())])
def test_what_depends_on_numbers_raises_there(call: Callable[[Tensor], Any], device: torch.device):
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        call(torch.zeros(3, device=device))
