"""A teacher in half precision, compiled, or with channels last: nearly the same, and nobody else's business."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor

import tiny
from det_distill.teachers.teacher import Teacher
from det_distill.views.base import TRAINING

Files = dict[str, str]
KINDS: dict[str, Any] = {"fpn": tiny.faster_rcnn, "c4": tiny.c4, "rfcn": tiny.rfcn} | {
    kind: lambda width=8, kind=kind: tiny.single_stage(kind, width) for kind in tiny.SINGLE_STAGE
}
EAGER = dict(backend="eager")
# Relative L2 distance of a tap; measured on these nets at most 4.8e-3, 5.8e-4 and 4.2e-7.
TOLERANCE = {"bf16": 1e-2, "fp16": 2e-3, None: 1e-5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(width=16, fpn=24))


def of(files: Files, student: Any, **options: Any) -> Any:
    """A Distiller whose teacher has these options."""
    torch.manual_seed(0)
    tap = "neck" if "neck" in student else "backbone"
    hint = tiny.imitation(tap=tap, mask=dict(type="FullMask"), adapter=dict(type="ConvAdapter"))
    return MODELS.build(tiny.distiller(student, files | options, terms=dict(hint=hint)))


def watched(model: Any, names: list[str] | None = None, size: tuple[int, int] = (96, 128), seed: int = 0) -> Any:
    """What the teacher shows of one batch, all its names or some."""
    names = names or [name for name in model.teacher.view.names() if name not in TRAINING]
    data = model.data_preprocessor(tiny.batch(size=size, seed=seed))
    corner = torch.rand(9, 2, generator=torch.Generator().manual_seed(seed)) * 40
    rois = torch.cat((torch.arange(9)[:, None] % 2, corner, corner + 30), dim=1)
    shown = model.teacher.watch(data["inputs"], data["data_samples"], names, rois)
    return {name: (shown[name],) if isinstance(shown[name], Tensor) else tuple(shown[name]) for name in names}


def distance(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
def test_every_tap_is_near_that_in_fp32_and_is_fp32(kind: str, tmp_path: Path):
    files = tiny.write_teacher(tmp_path, KINDS[kind](12))
    plain = watched(of(files, KINDS[kind](8)))
    for options in (dict(precision="bf16"), dict(precision="fp16"), dict(channels_last=True)):
        shown = watched(of(files, KINDS[kind](8), **options))
        for name, maps in shown.items():
            for one, other in zip(maps, plain[name], strict=True):
                assert one.dtype == torch.float32
                assert distance(one, other) < TOLERANCE[options.get("precision")], (name, options)
                assert not torch.equal(one, other) or "channels_last" in options


@pytest.mark.parametrize("around", [torch.bfloat16, None], ids=["under autocast", "without"])
def test_its_precision_is_its_own_whatever_surrounds_it(files: Files, around: torch.dtype | None):
    def shown(**options: Any) -> Tensor:
        with torch.autocast("cpu", around or torch.bfloat16, enabled=around is not None):
            return watched(of(files, tiny.faster_rcnn(), **options), ["neck"])["neck"][0]

    assert shown().dtype == (around or torch.float32)  # by default that of the surroundings
    exact, half = shown(precision="fp32"), shown(precision="bf16")
    assert exact.dtype == half.dtype == torch.float32
    assert torch.equal(exact, watched(of(files, tiny.faster_rcnn()), ["neck"])["neck"][0])
    assert torch.equal(half, half.bfloat16().float())  # wherever it was computed, it has no more digits
    assert not torch.equal(half, exact)


def test_options_that_are_off_change_no_bit(files: Files):
    off = dict(precision=None, compile=False, channels_last=False)
    one, other = (watched(of(files, tiny.faster_rcnn(), **options)) for options in ({}, off))
    assert all(torch.equal(*pair) for name in one for pair in zip(one[name], other[name], strict=True))
    steps = [tiny.losses(of(files, tiny.faster_rcnn(), **options), tiny.batch()) for options in ({}, off)]
    assert steps[0]["loss_hint"].equal(steps[1]["loss_hint"])


def test_the_student_is_untouched_but_for_its_teachers_digits(files: Files):
    plain, half = (tiny.losses(of(files, tiny.faster_rcnn(), precision=one), tiny.batch()) for one in (None, "bf16"))
    assert plain["loss_cls"].equal(half["loss_cls"])
    assert plain["loss_bbox"].equal(half["loss_bbox"])
    assert not plain["loss_hint"].equal(half["loss_hint"])
    assert half["loss_hint"].item() == pytest.approx(plain["loss_hint"].item(), rel=1e-2)


OPTIONS = [dict(precision="bf16"), dict(channels_last=True), dict(compile=EAGER)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weight_zero_copies_and_casts_are_as_ever(files: Files, options: dict[str, Any]):
    model = of(files, tiny.faster_rcnn(), **options)
    for term in model.terms.values():
        term.weight = 0.0
    alone = MODELS.build(tiny.faster_rcnn())
    alone.load_state_dict(model.state_dict(), strict=True)
    stock, mine = tiny.losses(alone, tiny.batch()), tiny.losses(model, tiny.batch())
    assert mine["loss_hint"] == 0
    assert torch.equal(stock["loss_cls"], mine["loss_cls"])
    assert deepcopy(model).teacher is model.teacher
    model.double()
    assert {value.dtype for value in model.teacher.detector.parameters()} == {torch.float64}
    data = model.data_preprocessor(tiny.batch())
    shown = model.teacher.watch(data["inputs"].double(), data["data_samples"], ["neck"], None)["neck"]
    assert {one.dtype for one in shown} == {torch.float64}  # autocast leaves doubles alone


WATCHED = [  # taps inside what is compiled come, go and come again; so do sizes
    ["neck"],
    ["backbone.preactivation"],
    ["neck"],
    ["neck", "backbone.layer3.0.relu"],
    ["rpn.logits", "roi.logits"],
    ["backbone.layer3.0.relu"],
    ["backbone.preactivation", "neck"],
]


@pytest.mark.slow
def test_a_compiled_teacher_shows_every_tap_of_the_batch_at_hand(files: Files):
    plain, compiled = (of(files, tiny.faster_rcnn(), **options) for options in ({}, dict(compile=EAGER)))
    torch._dynamo.reset()
    for seed, names in enumerate(WATCHED):
        size = (96, 160) if seed == 2 else (96, 128)
        one, other = (watched(model, names, size, seed) for model in (plain, compiled))
        for name in names:
            assert all(torch.equal(*pair) for pair in zip(one[name], other[name], strict=True)), (seed, name)
    frames = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for seed, names in enumerate(WATCHED):
        watched(compiled, names, seed=seed)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == frames > 0
    assert compiled.teacher.detector.state_dict().keys() == plain.teacher.detector.state_dict().keys()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(precision="bf61"), r"teacher\.precision='bf61' is none of 'fp32', 'bf16', 'fp16', did you mean 'bf16'\?"),
        (dict(precision=16), r"teacher\.precision=16 is none of 'fp32', 'bf16', 'fp16'"),
        (dict(presicion="bf16"), r"teacher\.presicion is unknown, did you mean 'precision'\?"),
        (dict(compile=dict(bakcend="eager")), r"teacher\.compile\.bakcend is unknown, did you mean 'backend'\?"),
        (dict(compile="eager"), r"teacher\.compile='eager'; a bool or a dict of backend, mode, .* is expected"),
        (dict(channels_last="yes"), r"teacher\.channels_last='yes'; a bool is expected"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_the_nearest(files: Files, wrong: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        Teacher.from_config(files | wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_fp32_on_a_gpu(files: Files, precision: str):
    plain, half = (of(files, tiny.faster_rcnn(), precision=one).cuda() for one in ("fp32", precision))
    for one, other in zip(watched(half, ["neck"])["neck"], watched(plain, ["neck"])["neck"], strict=True):
        assert one.dtype == torch.float32
        assert distance(one, other) < TOLERANCE[precision]
