"""What the report says of each term, judged by separate backward passes; that it changes nothing, to the bit."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import Tensor

import tiny
from det_distill.hooks import gradient_report
from det_distill.hooks.gradient_report import GradientReportHook
from det_distill.student.task_weights import TaskWeights

SCORES = dict(type="WeightedSoftLabels", head="roi", weight=0.5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(12, 24))


def built(teacher: dict[str, str], student: Any = None, **terms: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(student or tiny.faster_rcnn(), teacher, terms=terms))


def run_of(model: Any, step: int = 0) -> Any:
    """What the hook uses of a Runner."""
    said: list[str] = []
    logger = SimpleNamespace(info=said.append, said=said)
    return SimpleNamespace(model=model, iter=step, logger=logger, message_hub=MessageHub("report"))


def report(model: Any, data: dict[str, Any] | None = None, **hook: Any) -> tuple[dict[str, dict[str, float]], str]:
    """By term what lands in the message hub, and the log, of one step."""
    run, own = run_of(model), GradientReportHook(**dict(interval=1) | hook)
    own.before_train(run)
    own.before_train_iter(run, 0)
    tiny.losses(model, data or tiny.batch())
    own.after_train_iter(run, 0)
    rows: dict[str, dict[str, float]] = {}
    for key, history in run.message_hub.log_scalars.items():
        term, value = key.removeprefix("distill/").split(".")
        rows.setdefault(term, {})[value] = history.current()
    return rows, "\n".join(run.logger.said)


def norm_by_hand(model: Any, tap: str, keys: Any) -> float:
    """The norm of the gradient that a whole backward pass of the named losses leaves on the maps."""
    model, maps = deepcopy(model), []

    def keep(_module: Any, _args: Any, out: tuple[Tensor, ...]) -> None:
        maps.extend(out)
        for one in out:
            one.retain_grad()

    getattr(model.student, tap).register_forward_hook(keep)
    losses = tiny.losses(model, tiny.batch())
    total, _ = model.parse_losses({key: value for key, value in losses.items() if keys(key)})
    total.backward()
    return sum(float(one.grad.square().sum()) for one in maps if one.grad is not None) ** 0.5


@pytest.mark.parametrize("tap", ["backbone", "neck"])
def test_the_ratio_is_that_of_two_separate_backward_passes(teacher, tap):
    model = built(teacher, imitation=tiny.imitation(), scores=SCORES)
    rows, _ = report(model, tap=tap)
    assert set(rows) == {"imitation", "scores"}
    task = norm_by_hand(model, tap, lambda key: key not in ("loss_imitation", "loss_scores"))
    for name, row in rows.items():
        term = norm_by_hand(model, tap, lambda key, name=name: key == f"loss_{name}")
        assert row["grad_ratio"] == pytest.approx(term / task, rel=1e-4)
        assert term > 0


def test_value_and_share_are_those_of_the_total_loss(teacher):
    model = built(teacher, imitation=tiny.imitation(), scores=SCORES)
    rows, _ = report(model)
    losses = tiny.losses(model, tiny.batch())
    total, logs = model.parse_losses(losses)
    task = total - losses["loss_imitation"] - losses["loss_scores"]
    for name, row in rows.items():
        assert row["value"] == pytest.approx(logs[f"loss_{name}"].item())
    assert sum(row["share"] for row in rows.values()) + (task / total).item() == pytest.approx(1)


SCHEDULE = dict(type="Ramp", start=0.25, stop=1, begin=0, end=100)


@pytest.mark.parametrize("schedule", [None, SCHEDULE], ids=["constant", "ramp"])
def test_at_the_suggested_strength_the_ratio_is_the_target(teacher, schedule):
    first = built(teacher, imitation=tiny.imitation(0.002, schedule=schedule), scores=SCORES)
    row = report(first, target=0.4)[0]["imitation"]
    assert row["strength"] == 0.002 * (0.25 if schedule else 1)
    assert abs(row["grad_ratio"] - 0.4) > 0.1
    second = built(teacher, imitation=tiny.imitation(row["suggested"]), scores=SCORES)
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert report(second)[0]["imitation"]["grad_ratio"] == pytest.approx(0.4, rel=1e-4)


def test_parts_of_a_term_count_together(teacher):
    model = built(teacher, imitation=tiny.imitation())
    whole = report(model)[0]["imitation"]
    term = model.terms["imitation"]
    forward = term.forward
    term.forward = lambda *args: {"near": 0.25 * forward(*args), "far": 0.75 * forward(*args)}
    assert report(model)[0]["imitation"] == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("why", ["weight 0", "no objects"])
def test_a_term_without_a_gradient_is_reported_as_0_and_suggests_nothing(teacher, why):
    weight = 0.0 if why == "weight 0" else 0.01
    model = built(teacher, imitation=tiny.imitation(weight), scores=SCORES)
    rows, said = report(model, tiny.batch(boxes=0 if why == "no objects" else 3))
    assert rows["imitation"] == dict(value=0, share=0, strength=weight, grad_ratio=0)
    assert f"imitation: it has no gradient on 'backbone' in this step; strength {weight:g}" in said
    assert rows["scores"]["grad_ratio"] > 0


def test_a_task_without_a_gradient_is_said(teacher):
    model = built(teacher, imitation=tiny.imitation())
    keys = ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox")
    model.task_weights = TaskWeights(dict.fromkeys(keys, 0.0))
    rows, said = report(model)
    assert rows["imitation"]["grad_ratio"] == float("inf")
    assert "the task has no gradient on 'backbone'" in said


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.05, "it hardly teaches"), (0.5, "a fair say"), (3, "it outshouts the ground truth")]
)
def test_the_log_says_what_to_think_of_a_ratio_and_what_to_set(teacher, ratio, verdict):
    model = built(teacher, imitation=tiny.imitation(0.01))
    weight = report(model, target=ratio)[0]["imitation"]["suggested"]
    model.terms["imitation"].weight = weight
    row, said = report(model, target=0.3)
    assert said == (
        f"distill [1] imitation: pulls 'backbone' {ratio:.3g} times as hard as the task ({verdict}); value "
        f"{row['imitation']['value']:.4g}, {row['imitation']['share']:.1%} of the loss; strength {weight:.3g}, "
        f"{weight * 0.3 / ratio:.3g} would make it 0.3 times"
    )


def test_reports_come_every_interval_and_never_at_0(teacher):
    model = built(teacher, imitation=tiny.imitation())
    for interval, expected in ((0, []), (3, [0, 3, 6]), (1, list(range(7)))):
        hook, due = GradientReportHook(interval), []
        for step in range(7):
            hook.before_train_iter(run_of(model, step), 0)
            due += [step] if model.audit else []
        assert due == expected


def test_at_interval_0_nothing_is_recorded_computed_or_said(teacher, monkeypatch):
    model = built(teacher, imitation=tiny.imitation())
    monkeypatch.setattr(gradient_report, "pull", lambda *_: pytest.fail("a gradient was computed"))
    recorded: list[str] = []
    record = model.view.record
    monkeypatch.setattr(model.view, "record", lambda names: recorded.extend(names) or record(names))
    assert report(model, interval=0) == ({}, "")
    assert recorded == ["neck"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(tap="bakcbone"), r"GradientReportHook\.tap='bakcbone' .*did you mean 'backbone'"),
        (dict(tap="backbone.layer2"), "is none of 'backbone', 'neck', did you mean 'backbone'"),
        (dict(interval=-1), "interval=-1"),
        (dict(target=0), "target=0"),
    ],
)
def test_wrong_settings_are_named_at_construction(change, words):
    with pytest.raises(ValueError, match=words):
        GradientReportHook(**change)


def test_a_neck_that_is_not_there_is_named_before_the_first_step(tmp_path):
    model = built(tiny.write_teacher(tmp_path, tiny.c4(12)), tiny.c4(), imitation=tiny.imitation(tap="backbone"))
    with pytest.raises(ValueError, match="the student has no tap 'neck'"):
        GradientReportHook(interval=1, tap="neck").before_train(run_of(model))


def test_a_frozen_tap_is_named(teacher):
    model = built(teacher, imitation=tiny.imitation())
    model.student.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match=r"tap='backbone' has no gradient; .*'neck'"):
        report(model)


def test_a_training_that_reports_is_bit_identical_to_one_that_does_not(teacher, tmp_path):
    """Four steps in a real Runner; its message hub and its log hold the reports."""
    data = tiny.write_dataset(tmp_path / "data")
    terms = dict(imitation=tiny.imitation(), scores=SCORES, off=tiny.imitation(0.0))
    weights = []
    for interval in (0, 1):
        cfg = tiny.run_config(data, tmp_path / str(interval), tiny.distiller(tiny.faster_rcnn(), teacher, terms=terms))
        cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval, cfg.log_level = 1, 9, "INFO"
        cfg.custom_hooks.append(dict(type="GradientReportHook", interval=interval))
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights.append(runner.model.state_dict() | runner.model.terms.state_dict())
        log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
        assert [log.count(f"distill [{step}] imitation: pulls") for step in (1, 2, 3, 4)] == 4 * [interval]
        mine = {key: len(h.data[0]) for key, h in runner.message_hub.log_scalars.items() if key.startswith("distill/")}
        parts = ("value", "share", "strength", "grad_ratio")
        expected = {f"distill/{name}.{part}": 4 for name in terms for part in parts}
        expected |= {"distill/imitation.suggested": 4, "distill/scores.suggested": 4}
        assert mine == (expected if interval else {})
    assert all(a.equal(b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))
