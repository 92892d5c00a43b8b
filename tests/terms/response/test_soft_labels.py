"""Soft labels as a term: which boxes, anchors and cells are compared, row by row, and in which of two kinds."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.registry import MODELS
from torch import Tensor

import tiny
from det_distill.scene import Scene
from det_distill.terms.base import Batch
from det_distill.terms.response.soft_labels import SoftLabels
from det_distill.views.anatomy import Anatomy, MapSpec

A, K, GRIDS, STRIDES = 3, 2, [(4, 5), (2, 3)], (8, 16)
SIGMOID = dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)
Rows = Sequence[Sequence[float]]


def anchors(ratios: Sequence[float] = (0.5, 1.0, 2.0), strides: Sequence[int] = STRIDES) -> AnchorGenerator:
    return AnchorGenerator(strides=list(strides), ratios=list(ratios), scales=[8])


def softmax(row: Sequence[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def classes(own: Rows, its: Rows, temperature: float) -> float:
    """Of classes that exclude each other; shares no code with the term."""
    total = 0.0
    for z, v in zip(own, its, strict=True):
        total += sum(p * math.log(p / q) for p, q in zip(softmax(v, temperature), softmax(z, temperature), strict=True))
    return temperature**2 * total / max(1, len(own))


def yes_or_no(own: Rows, its: Rows, temperature: float) -> float:
    """Of classes that are a Bernoulli each."""
    pairs = [pair for z, v in zip(own, its, strict=True) for pair in zip(z, v, strict=True)]
    two = [([z, 0.0], [v, 0.0]) for z, v in pairs]  # a sigmoid is a softmax with a logit at 0
    total = classes([z for z, _ in two], [v for _, v in two], temperature) * len(two)
    return total / max(1, len(own))


def side(name: str, classes: int = K, strides: Sequence[int] = STRIDES, each: int = A, **other: Any) -> Anatomy:
    box = SimpleNamespace(loss_cls=SimpleNamespace(use_sigmoid=False), num_classes=classes)
    grid = SimpleNamespace(
        num_classes=classes, use_sigmoid_cls=True, num_base_priors=each, prior_generator=anchors(strides=strides)
    )
    shows = {"head.logits": tuple(MapSpec(each * classes, stride) for stride in strides)}
    return Anatomy(name, shows, grid, box, dense=grid, **other)


def wired(head: str, teacher: Any = None, student: Anatomy | None = None, **config: Any) -> SoftLabels:
    term = SoftLabels(head, weight=1, **config)
    term.wire(student or side("student"), teacher or {"teacher": side("teacher")})
    return term


def maps(channels: int, seed: int, grids: Sequence[tuple[int, int]] = GRIDS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *grid, generator=generator, requires_grad=True) for grid in grids]


# ---------------------------------------------------------------- which rows


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_the_rpn_s_rows_are_the_sampled_anchors_by_level_image_row_column_anchor(density: float):
    own, its = maps(A, 1), maps(A, 2)
    generator = torch.Generator().manual_seed(3)
    weights = [(torch.rand(2, h * w * A, generator=generator) < density).float() for h, w in GRIDS]
    found: list[list[list[float]]] = [[], []]
    for level, (h, w) in enumerate(GRIDS):
        for b, y, x, a in product(range(2), range(h), range(w), range(A)):
            if weights[level][b, (y * w + x) * A + a] > 0:
                for rows, one in zip(found, (own, its), strict=True):
                    rows.append([one[level][b, a, y, x].item()])
    term, seen = wired("rpn", temperature=2.0), {"rpn.logits": own, "rpn.targets": (None, weights, None, None, 0)}
    teacher = {"rpn.logits": its}
    assert [one.tolist() for one in term.source.rows([seen, teacher], None)] == found
    value = term(seen, {"teacher": teacher}, None)
    assert value.item() == pytest.approx(yes_or_no(*found, 2.0), rel=1e-5)
    value.backward()
    assert all(one.grad is not None for one in own)
    assert all(one.grad is None for one in its)


SCENES = {
    "two images": [torch.tensor([[9.0, 3, 22, 12]]), torch.tensor([[0.0, 20, 12, 31], [30, 5, 39, 30]])],
    "one of them empty": [torch.tensor([[9.0, 3, 22, 12]]), torch.zeros(0, 4)],
    "no boxes": [torch.zeros(0, 4)] * 2,
}


def on(boxes: Tensor, stride: int, y: int, x: int) -> bool:
    """Whether a cell's square overlaps a box."""
    return any(
        x * stride < x2 and (x + 1) * stride > x1 and y * stride < y2 and (y + 1) * stride > y1
        for x1, y1, x2, y2 in boxes.tolist()
    )


def dense_rows(shown: list[Tensor], boxes: list[Tensor], kinds: int) -> list[list[float]]:
    """By level, image, row, column, anchor; an anchor's classes lie side by side among the channels."""
    rows = []
    for level, (h, w) in enumerate(GRIDS):
        for b, y, x in product(range(2), range(h), range(w)):
            if on(boxes[b], STRIDES[level], y, x):
                cell = shown[level][b, :, y, x].tolist()
                rows += [cell[a * kinds : (a + 1) * kinds] for a in range(A)]
    return rows


def batch_of(boxes: list[Tensor]) -> Batch:
    return Batch(Scene(boxes, [torch.zeros(0, 4)] * 2, [(32, 40)] * 2), [], anchors())


EVERY = dict(type="GtBoxMask", level_assignment="every")


@pytest.mark.parametrize("boxes", SCENES.values(), ids=SCENES)
def test_a_dense_head_s_rows_are_the_anchors_of_the_mask_s_cells(boxes: list[Tensor]):
    own, its, term = maps(A * K, 1), maps(A * K, 2), wired("dense", mask=EVERY, temperature=3.0)
    seen, teacher, batch = {"head.logits": own}, {"head.logits": its}, batch_of(boxes)
    found = [dense_rows(one, boxes, K) for one in (own, its)]
    assert [one.tolist() for one in term.source.rows([seen, teacher], batch)] == found
    value = term(seen, {"teacher": teacher}, batch)
    assert value.item() == pytest.approx(yes_or_no(*found, 3.0), rel=1e-5)
    value.backward()
    assert all(one.grad is not None for one in own)
    assert all(one.grad is None for one in its)


def test_a_dense_specialist_of_more_classes_teaches_the_one_it_shares():
    boxes = SCENES["two images"]
    own, its = maps(A, 1), maps(A * 4, 2)
    teacher = {"expert": side("teacher", classes=4, class_map=((2, 0),))}
    term = wired("dense", teacher, side("student", classes=1), mask=EVERY, temperature=3.0)
    value = term({"head.logits": own}, {"expert": {"head.logits": its}}, batch_of(boxes))
    known = [row[2:3] for row in dense_rows(its, boxes, 4)]
    assert value.item() == pytest.approx(yes_or_no(dense_rows(own, boxes, 1), known, 3.0), rel=1e-5)


@pytest.mark.parametrize("names", [("like", "finer"), ("finer", "like")], ids=str)
def test_each_teacher_s_levels_are_found_by_its_own_strides(names: tuple[str, str]):
    """A teacher with a finer level has its stride 8 in another place; of points, so that the anchors need not agree."""
    anatomy = dict(like=side("teacher", each=1), finer=side("teacher", strides=(4, 8, 16), each=1))
    teachers = {name: anatomy[name] for name in names}
    term = wired("dense", teachers, side("student", each=1), mask=dict(type="FullMask"), strides=[8, 16])
    own = maps(K, 1)
    its = dict(like=maps(K, 2), finer=maps(K, 3, [(8, 10), *GRIDS]))
    batch = batch_of(SCENES["no boxes"])
    value = term({"head.logits": own}, {name: {"head.logits": its[name]} for name in names}, batch)
    total = 0.0
    for level, (h, w) in enumerate(GRIDS):
        for b, k, y, x in product(range(2), range(K), range(h), range(w)):
            logits = (its["like"][level], its["finer"][level + 1])
            p = sum(1 / (1 + math.exp(-one[b, k, y, x].item() / 4)) for one in logits) / 2
            q = 1 / (1 + math.exp(-own[level][b, k, y, x].item() / 4))
            total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert value.item() == pytest.approx(16 * total / (2 * sum(h * w for h, w in GRIDS)), rel=1e-5)


# ---------------------------------------------------------------- in a training step


def built(folder: Path, student: Any, teacher: Any, told: dict[str, Any] | None = None, **term: Any) -> Any:
    torch.manual_seed(0)
    files = tiny.write_teacher(folder, teacher) | (told or {})
    terms = dict(soft=dict(type="SoftLabels", weight=0.5, temperature=2.0) | term)
    return MODELS.build(tiny.distiller(student, files, terms=terms))


def sigmoids(model: Any) -> Any:
    model.roi_head.bbox_head.loss_cls = SIGMOID
    return model


def step(model: Any, path: str, labels: int | None = None) -> tuple[float, Any, Any]:
    """The term's loss, and what the modules of that path returned on the student and on the teacher."""
    shown: dict[str, Any] = {}
    nets = dict(student=model.student, teacher=model.teacher.detector)
    for name, net in nets.items():
        net.get_submodule(path).register_forward_hook(lambda _m, _a, out, name=name: shown.update({name: out[0]}))
    data = tiny.batch()
    for sample in data["data_samples"]:
        sample.gt_instances.labels %= labels or 99
    losses = tiny.losses(model, data)
    model.parse_losses(losses)[0].backward()
    assert all(one.grad is None for one in nets["teacher"].parameters())
    return losses["loss_soft"].item(), shown["student"], shown["teacher"]


@pytest.mark.parametrize(
    ("like", "oracle"), [(lambda model: model, classes), (sigmoids, yes_or_no)], ids=["softmax", "sigmoids"]
)
def test_on_sampled_boxes_either_kind_of_roi_head_is_judged(tmp_path: Path, like: Any, oracle: Callable[..., float]):
    """MMDetection's box head has a background behind its classes in both kinds: a Bernoulli more with sigmoids."""
    model = built(tmp_path, like(tiny.faster_rcnn()), like(tiny.faster_rcnn(12)), head="roi")
    loss, own, its = step(model, "roi_head.bbox_head")
    assert own.shape == its.shape == (len(own), 4)
    assert loss == pytest.approx(0.5 * oracle(own.tolist(), its.tolist(), 2.0), rel=1e-4)


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_a_stock_single_stage_head_is_judged_cell_by_cell(tmp_path: Path, kind: str):
    full = dict(type="FullMask")
    model = built(tmp_path, tiny.single_stage(kind), tiny.single_stage(kind, 12), head="dense", mask=full)
    loss, own, its = step(model, "bbox_head")
    each = 9 if kind == "retinanet" else 1
    rows: list[list[list[float]]] = [[], []]
    for found, levels in zip(rows, (own, its), strict=True):
        for level, stride in zip(levels, (8, 16, 32, 64, 128), strict=True):
            inside = level[:, :, : -(-96 // stride), : -(-128 // stride)]
            found += inside.permute(0, 2, 3, 1).reshape(-1, 3).tolist()
    assert len(rows[0]) == 2 * each * (12 * 16 + 6 * 8 + 3 * 4 + 2 * 2 + 1)
    assert loss == pytest.approx(0.5 * yes_or_no(*rows, 2.0), rel=1e-4)


def test_a_student_of_one_class_learns_that_class_from_a_teacher_of_three(tmp_path: Path):
    told = dict(class_map=[(2, 0)])
    model = built(tmp_path, tiny.faster_rcnn(classes=1), tiny.faster_rcnn(12), told, head="roi")
    loss, own, its = step(model, "roi_head.bbox_head", labels=1)
    assert (own.shape[1], its.shape[1]) == (2, 4)
    total = 0.0
    for z, v in zip(own.tolist(), its.tolist(), strict=True):
        p, q = softmax(v, 2.0)[2], softmax(z, 2.0)[0]
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert loss == pytest.approx(0.5 * 4 * total / len(own), rel=1e-4)


def test_of_other_classes_the_rpn_teaches_all_the_same(tmp_path: Path):
    """It tells no classes apart, so that a class map says nothing of it."""
    told = dict(class_map=[(2, 0)])
    model = built(tmp_path, tiny.faster_rcnn(classes=1), tiny.faster_rcnn(12), told, head="rpn")
    told_by: dict[str, Any] = {}
    inner = model.student.rpn_head.get_targets
    model.student.rpn_head.get_targets = lambda *a, **k: told_by.setdefault("targets", inner(*a, **k))
    loss, own, its = step(model, "rpn_head", labels=1)
    sampled = told_by["targets"][1]
    rows: list[list[list[float]]] = [[], []]
    for found, levels in zip(rows, (own, its), strict=True):
        for level, weights in zip(levels, sampled, strict=True):
            b, a, h, w = level.shape
            cells = product(range(b), range(h), range(w), range(a))
            found += [[level[b, a, y, x].item()] for b, y, x, a in cells if weights[b, (y * w + x) * 3 + a] > 0]
    assert 0 < len(rows[0]) <= 2 * 256
    assert loss == pytest.approx(0.5 * yes_or_no(*rows, 2.0), rel=1e-4)


# ---------------------------------------------------------------- mistakes


def test_a_softmax_beside_sigmoids_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"terms\.soft: .*student and teacher 'teacher' has a softmax, the other"):
        built(tmp_path, tiny.faster_rcnn(), sigmoids(tiny.faster_rcnn(12)), head="roi")


@pytest.mark.parametrize("head", ["roi", "dense"])
def test_other_classes_without_a_class_map_are_refused_by_the_teacher_s_name(head: str):
    with pytest.raises(ValueError, match="teacher 'b' has 5 classes, the student 2"):
        wired(head, {"a": side("teacher"), "b": side("teacher", classes=5)})


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (side("teacher", each=1), "3 anchors or points a cell on the student, 1 on the teacher"),
        (side("teacher", strides=(8, 32)), r"set strides=\[8\] to compare what they share"),
    ],
    ids=["other anchors", "other strides"],
)
def test_dense_heads_of_other_cells_are_refused(teacher: Anatomy, said: str):
    with pytest.raises(ValueError, match=said):
        wired("dense", {"teacher": teacher})


def test_a_mask_of_anchors_is_refused_where_the_student_judges_points(tmp_path: Path):
    mask = dict(type="AnchorIoUMask", psi=0.5)
    with pytest.raises(ValueError, match=r"terms\.soft: AnchorIoUMask needs anchors, the student judges points"):
        built(tmp_path, tiny.single_stage("fcos"), tiny.single_stage("fcos", 12), head="dense", mask=mask)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (dict(head="rcnn"), "head='rcnn' is none of 'roi', 'rpn', 'dense'"),
        (dict(head="roi", mean="geometrical"), r"mean='geometrical' is none of .*did you mean 'geometric'\?"),
        (dict(head="roi", temperature=0), "temperature=0; a number of at least"),
        (dict(head="dense", mask=dict(type="GtBoxMusk")), "GtBoxMusk.*did you mean 'GtBoxMask'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(config: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        SoftLabels(weight=1, **config)
