"""A staged run, judged by a plain loop in torch and by the uninterrupted run, to the bit."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

import tiny

HINT = tiny.imitation(0.5, "backbone", mask=dict(type="FullMask"), distance="l2")
TERMS = dict(hint=HINT, imitation=tiny.imitation())
STEPS = 2  # an epoch: 4 images, 2 a batch
LENGTH = 2 * STEPS  # of each of two stages
RATES = [0.05] * STEPS + [0.025] * STEPS + [0.01] * LENGTH
HALF = dict(type="StepLR", step_size=1, gamma=0.5)
STAGES = [
    dict(
        until=2,
        terms=["hint"],
        task_loss=False,
        train=["backbone"],
        optim_wrapper=dict(optimizer=dict(lr=0.05, weight_decay=0.1)),
        param_scheduler=[HALF],
    ),
    dict(terms=["imitation"]),
]
BY_EPOCH = dict(train_cfg=dict(max_epochs=4, val_begin=9))
BY_ITER = dict(
    default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=STEPS, by_epoch=False)),
    train_cfg=dict(_delete_=True, type="IterBasedTrainLoop", max_iters=4 * STEPS, val_interval=100),
    train_dataloader=dict(sampler=dict(type="InfiniteSampler", shuffle=True)),
    log_processor=dict(by_epoch=False),
)
LOOPS = {"epochs": (BY_EPOCH, 1), "iterations": (BY_ITER, STEPS)}


class Diary(Hook):
    """Every step's batch, random stream, learning rate, losses and the weights before it."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Any]] = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.steps[runner.iter] = dict(
            batch=copy.deepcopy(data_batch),
            stream=torch.get_rng_state(),
            lr=runner.optim_wrapper.get_lr()["lr"][0],
            start=everything(runner.model),
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps[runner.iter] |= dict(losses={key: value.item() for key, value in outputs.items()})

    def losses(self) -> dict[int, dict[str, float]]:
        return {step: page["losses"] for step, page in self.steps.items()}


def everything(model: nn.Module) -> dict[str, torch.Tensor]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach().clone() for name, value in named.items()}


def run(cfg: Config, stop: int | None = None) -> tuple[Diary, dict[str, torch.Tensor], Runner]:
    diary = Diary()
    runner = tiny.trained(cfg, diary, stop=None if stop is None else tiny.Interrupt(stop))
    return diary, everything(runner.model), runner


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "set", images=4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))


@pytest.fixture(scope="module")
def config(tmp_path_factory, data, teacher):
    """A run of 2 + 2 epochs, or of as many steps, in a folder of its own; `stages` are written in epochs."""

    def write(loop: str = "epochs", stages: Any = STAGES, **other: Any) -> Config:
        changes, unit = copy.deepcopy(LOOPS[loop])
        stages = [one | (dict(until=one["until"] * unit) if "until" in one else {}) for one in copy.deepcopy(stages)]
        model = tiny.distiller(tiny.faster_rcnn(), teacher, terms=copy.deepcopy(TERMS), stages=stages)
        cfg = tiny.run_config(data, tmp_path_factory.mktemp("run"), model, **changes)
        cfg.custom_hooks.append(dict(type="StagesHook"))
        cfg.merge_from_dict(other)
        return cfg

    return write


# ---------------------------------------------------------------- the plain loop


def by_hand(cfg: Config, diary: Diary, rates: list[float], accumulate: int = 1) -> dict[str, torch.Tensor]:
    """The two stages of `STAGES` one after the other, in torch alone, on the run's batches and random streams."""
    model = MODELS.build({key: value for key, value in cfg.model.items() if key != "stages"})
    model.saves_adapters = True  # so that it does not ask for a Runner's hooks
    with torch.no_grad():
        for name, value in everything_of(model).items():
            value.copy_(diary.steps[0]["start"][name])
    for first, terms, rest, decay in ((0, ["hint"], True, 0.1), (LENGTH, ["imitation"], False, 0.0)):
        for name in TERMS:
            model.terms[name].weight = TERMS[name]["weight"] if name in terms else 0.0
        for name, weight in model.named_parameters():
            weight.requires_grad = not rest or name.startswith(("student.backbone.", "terms.hint."))
        optimiser = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=decay)
        for step in range(first, first + LENGTH):
            model.train()
            page = diary.steps[step]
            torch.set_rng_state(page["stream"])
            batch = model.data_preprocessor(page["batch"], True)
            losses = model(**batch, mode="loss")
            total, _ = model.parse_losses({key: losses[key] for key in losses if not rest or key == "loss_hint"})
            done = step - first
            window = min(accumulate, LENGTH - done // accumulate * accumulate)  # the last may be short
            (total / window).backward()
            if (done + 1) % accumulate == 0 or done + 1 == LENGTH:
                for group in optimiser.param_groups:
                    group["lr"] = rates[step]
                optimiser.step()
                optimiser.zero_grad()
    return everything(model)


def everything_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_staged_run_is_two_plain_runs_in_a_row(config, loop):
    """Fresh momentum, weight decay on what learns alone, a schedule counted from the stage's start."""
    half = HALF | (dict(by_epoch=False, step_size=STEPS) if loop == "iterations" else {})
    cfg = config(loop=loop, stages=[STAGES[0] | dict(param_scheduler=[half]), STAGES[1]])
    diary, weights, runner = run(copy.deepcopy(cfg))
    assert [diary.steps[step]["lr"] for step in diary.steps] == RATES
    assert same(by_hand(cfg, diary, RATES), weights)
    assert {key for key in diary.losses()[LENGTH - 1] if "loss" in key} == {"loss", "loss_hint", "loss_imitation"}
    assert {"loss_cls", "loss_rpn_bbox"} < set(diary.losses()[LENGTH])


def test_what_rests_in_a_stage_is_the_same_at_its_end_and_what_learns_is_not(config):
    diary, _, _ = run(config())
    start, end = diary.steps[0]["start"], diary.steps[LENGTH]["start"]
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert {name.split(".")[1] for name in moved} == {"backbone", "hint"}
    assert {name for name in start if name.startswith("student.backbone.")} <= moved


@pytest.mark.parametrize("accumulate", [2, 3])
def test_gradient_accumulation_counts_from_the_stages_start_and_leaves_no_gradient_behind(config, accumulate):
    """4 steps a stage: with windows of 3 the last has 1."""
    cfg = config(optim_wrapper=dict(accumulative_counts=accumulate))
    diary, weights, _ = run(copy.deepcopy(cfg))
    assert same(by_hand(cfg, diary, RATES, accumulate), weights)


# ---------------------------------------------------------------- resume


BY_WEIGHT = dict(paramwise_cfg=dict(norm_decay_mult=0.0))  # an optimiser with a group for each weight that may learn
TWO_KINDS = [
    STAGES[0] | dict(optim_wrapper=BY_WEIGHT | STAGES[0]["optim_wrapper"]),
    STAGES[1] | dict(optim_wrapper=dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-3))),
]


@pytest.fixture(scope="module")
def whole(config):
    """The uninterrupted run, once a loop."""

    @cache
    def runs(loop: str) -> Any:
        return run(config(loop, TWO_KINDS))

    return runs


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("stop", "saved"), [(3, 2), (5, 4), (7, 6)], ids=["stage 0", "boundary", "stage 1"])
def test_an_interrupted_run_goes_on_to_the_bit_in_every_stage(config, whole, loop, stop, saved):
    """At the boundary the checkpoint holds the momentum of stage 0's SGD; AdamW would stumble over it."""
    diary, weights, _ = whole(loop)
    cfg = config(loop, TWO_KINDS)
    *_, stopped = run(copy.deepcopy(cfg), stop=stop)
    file = (Path(stopped.work_dir) / "last_checkpoint").read_text()
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["stage"] == (0 if saved <= LENGTH else 1)
    kept = next(iter(checkpoint["optimizer"]["state"].values()))
    assert ("momentum_buffer" in kept, "exp_avg" in kept) == (saved <= LENGTH, saved > LENGTH)
    cfg.resume = True
    rest, resumed, _ = run(cfg)
    assert min(rest.steps) == saved
    assert rest.losses() == {step: losses for step, losses in diary.losses().items() if step >= saved}
    assert same(weights, resumed)


def test_the_runs_optimiser_comes_back_fresh_after_a_stage_of_its_own(config):
    stages = [
        dict(until=1),
        dict(until=2, param_scheduler=[HALF | dict(by_epoch=False)]),
        dict(until=3, train=["roi_head"]),
        dict(train=["neck"]),
    ]
    linear = dict(type="LinearLR", start_factor=0.5, by_epoch=False)
    cfg = config(
        stages=stages, param_scheduler=[linear], optim_wrapper=BY_WEIGHT | dict(optimizer=dict(weight_decay=1e-4))
    )
    diary, weights, _ = run(cfg)
    rates = [page["lr"] for page in diary.steps.values()]
    assert rates[:2] == pytest.approx([0.005, 0.01])  # LinearLR ends with the leg of 2 steps
    assert rates[2:4] == pytest.approx([0.01, 0.005])
    assert rates[4:] == pytest.approx([0.005, 0.005 * 4 / 3, 0.005 * 5 / 3, 0.01])  # and with that of 4
    head, neck = "student.roi_head.bbox_head.fc_cls.weight", "student.neck.fpn_convs.0.conv.weight"
    starts = [diary.steps[step]["start"] for step in (4, 6)]
    assert not torch.equal(starts[0][head], starts[1][head])
    assert torch.equal(starts[0][neck], starts[1][neck])
    assert torch.equal(starts[1][head], weights[head])
    assert not torch.equal(starts[1][neck], weights[neck])


def test_stages_that_share_all_are_the_run_without_stages(config):
    _, staged, _ = run(config(stages=[dict(until=1), dict()]))
    cfg = config()
    cfg.model.pop("stages")
    _, plain, _ = run(cfg)
    assert same(staged, plain)


def test_a_staged_checkpoint_is_the_plain_students(config):
    _, weights, runner = run(config())
    checkpoint = torch.load(Path(runner.work_dir) / "epoch_4.pth", weights_only=True)
    plain = MODELS.build(tiny.faster_rcnn())
    plain.load_state_dict(checkpoint["state_dict"], strict=True)
    assert all(torch.equal(value, weights[f"student.{name}"]) for name, value in plain.named_parameters())


def test_the_learning_rate_of_a_stage_follows_the_batch_size_where_the_runs_does(config):
    cfg = config(auto_scale_lr=dict(enable=True, base_batch_size=4))  # batches are of 2
    diary, _, _ = run(cfg)
    assert [diary.steps[step]["lr"] for step in diary.steps] == [rate / 2 for rate in RATES]


def test_each_stage_says_what_it_does(config):
    cfg = config(log_level="INFO")
    _, _, runner = run(cfg)
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert log.count("stage 0 begins: terms hint; task loss off; trains backbone; lr 0.05\n") == 1
    assert log.count("stage 1 begins: terms imitation; task loss on; trains the whole student; lr 0.01\n") == 1


@pytest.mark.parametrize("tap", ["backbone", "neck"])
def test_gradient_reports_go_on_in_every_stage_and_change_nothing(config, tap):
    """In stage 0 there is no task and the neck does not run; in stage 2 the backbone rests."""
    stages = [STAGES[0] | dict(until=1), dict(until=2, terms=["imitation"], train=["roi_head"]), dict(terms=["hint"])]
    report = dict(type="GradientReportHook", interval=1, tap=tap)
    reported = config(stages=stages)
    reported.custom_hooks.append(report)
    _, weights, runner = run(reported)
    _, plain, _ = run(config(stages=stages))
    assert same(weights, plain)
    ratios = runner.message_hub.get_scalar("distill/hint.grad_ratio").data[0]
    first = float("inf") if tap == "backbone" else 0
    assert list(ratios[:4]) == [first] * 2 + [0] * 2
    assert all(0 < ratio < float("inf") for ratio in ratios[4:]) == (tap == "backbone")


# ---------------------------------------------------------------- mistakes


def test_stages_nobody_enters_stop_the_run_at_once(config):
    cfg = config()
    cfg.custom_hooks.pop()
    with pytest.raises(RuntimeError, match="StagesHook"):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (dict(until=3), r"stages\.1\.until=3, but the run lasts 4 epochs"),
        (dict(optim_wrapper=dict(optimizer=dict(momentun=0.9))), r"^stages\.1\.optim_wrapper: .*momentun"),
        (dict(optim_wrapper=dict(optimizer=dict(type="SDG"))), r"^stages\.1\.optim_wrapper: "),
        (dict(param_scheduler=[dict(type="StepLR", step=1)]), r"^stages\.1\.param_scheduler: .*step"),
        (dict(param_scheduler=[dict(type="LinearLR", begin=5)]), r"^stages\.1\.param_scheduler: .*begin=5"),
    ],
)
def test_what_cannot_be_built_in_a_later_stage_stops_the_run_before_its_first_step(config, stage, words):
    cfg = config(stages=[STAGES[0], stage])
    runner, diary = Runner.from_cfg(cfg), Diary()
    runner.register_hook(diary)
    with pytest.raises(ValueError, match=words):
        runner.train()
    assert not diary.steps


def test_a_checkpoint_of_other_stages_is_refused(config):
    _, _, staged = run(config(stages=[dict(until=1), dict()], train_cfg=dict(max_epochs=2)))
    plain = config(train_cfg=dict(max_epochs=1))
    plain.model.pop("stages")
    _, _, plain_run = run(plain)
    for source, stages, words in ((plain_run, STAGES, "a run without stages"), (staged, [], "stage 1 of a run")):
        file = (Path(source.work_dir) / "last_checkpoint").read_text()
        cfg = config(stages=stages, resume=True, load_from=file)
        with pytest.raises(ValueError, match=f"written by {words}, but the config has {len(stages)} stages.*load_from"):
            Runner.from_cfg(cfg).train()
