"""What happens to a step whose losses are not finite, judged by the uninterrupted run and by a plain loop in torch."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import finite_ranks
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

import tiny
from det_distill.hooks.finite_losses import FiniteLossesHook

CRITIC = dict(type="Holistic", tap="neck", adapter=dict(type="ConvAdapter", kernel=1), size=8, width=4, weight=0.1)
NEURONS = dict(type="NeuronSelection", budget=4, samples=28, weight=0.1)
TERMS = dict(imitation=tiny.imitation(schedule=dict(type="Ramp", start=1, stop=3, begin=0, end=4)), critic=CRITIC)
BY_ITER = dict(
    default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=100, by_epoch=False)),
    train_cfg=dict(_delete_=True, type="IterBasedTrainLoop", max_iters=7, val_interval=100, val_begin=100),
    train_dataloader=dict(sampler=dict(type="InfiniteSampler", shuffle=True)),
    log_processor=dict(by_epoch=False),
)
BY_EPOCH = dict(train_cfg=dict(max_epochs=4, val_begin=9))
STEPS = 2  # an epoch: 4 images, 2 a batch
SGD = dict(lr=0.01, momentum=0.9, weight_decay=0.1)


class Poison(Hook):
    """In some steps, counted from 1, something of the model yields what is not finite."""

    def __init__(self, what: str, *steps: int, value: float = float("nan")) -> None:
        self.what, self.steps, self.value = what, steps, value

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        model, value = runner.model, self.value
        self.undo = lambda: None
        if runner.iter + 1 not in self.steps:
            return
        if self.what == "student":
            model.student.roi_head.bbox_head.loss_bbox.loss_weight = value
            self.undo = partial(setattr, model.student.roi_head.bbox_head.loss_bbox, "loss_weight", 1.0)
        elif self.what == "maps":  # everything behind them, norm statistics and critic among it
            self.undo = model.student.backbone.conv1.register_forward_hook(lambda *out: out[-1] * value).remove
        elif self.what == "weight":
            model.student.neck.lateral_convs[0].conv.weight.data[0, 0] = value
        else:
            term, _, part = self.what.partition(".")
            inner = model.terms[term].forward
            spoilt = lambda *args: {"good": inner(*args), part: inner(*args) * value} if part else inner(*args) * value  # noqa: E731
            model.terms[term].forward = spoilt
            self.undo = partial(setattr, model.terms[term], "forward", inner)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.undo()


class Diary(Hook):
    """Every step's batch, the random stream and the weights before it, and what was logged."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Any]] = {}

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.steps[runner.iter + 1] = dict(
            batch=copy.deepcopy(data_batch), stream=torch.get_rng_state(), start=everything(runner.model)
        )

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.steps[runner.iter + 1] |= dict(losses={key: value.item() for key, value in outputs.items()})

    def losses(self) -> dict[int, dict[str, float]]:
        return {step: page["losses"] for step, page in self.steps.items() if "losses" in page}


def everything(model: nn.Module) -> dict[str, torch.Tensor]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach().clone() for name, value in named.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


class Ran:
    """A run, finished or stopped."""

    def __init__(self, cfg: Config, *poisons: Hook) -> None:
        self.runner, self.diary = Runner.from_cfg(copy.deepcopy(cfg)), Diary()
        for poison in (*poisons, self.diary):
            self.runner.register_hook(poison)
        self.error = ""
        try:
            self.runner.train()
        except FloatingPointError as error:
            self.error = str(error)
        self.model, self.folder = self.runner.model, Path(self.runner.work_dir)

    def log(self) -> str:
        return Path(self.runner.log_dir, f"{self.runner.timestamp}.log").read_text()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(12, 24))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, teacher: dict[str, str]) -> Any:
    data = tiny.write_dataset(tmp_path_factory.mktemp("data") / "set", images=4)

    def write(loop: dict[str, Any] = BY_ITER, terms: Any = TERMS, hook: Any = None, **other: Any) -> Config:
        model = tiny.distiller(tiny.faster_rcnn(), teacher, terms=copy.deepcopy(terms))
        optim = dict(optim_wrapper=dict(optimizer=SGD))
        cfg = tiny.run_config(data, tmp_path_factory.mktemp("run"), model, **copy.deepcopy(loop))
        cfg.merge_from_dict(optim | other)
        cfg.custom_hooks.append(dict(type="FiniteLossesHook") | (hook or {}))
        return cfg

    return write


SKIP = dict(action="skip")


# ------------------------------------------------------------ stop


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        ("imitation", float("nan"), "loss_imitation=nan at strength 0.02;"),  # the ramp from 1 to 3 is at 2 by step 3
        ("imitation", float("inf"), "loss_imitation=inf at strength 0.02;"),
        ("critic.far", float("nan"), "loss_critic.far=nan at strength 0.1;"),
        ("student", float("nan"), "loss_bbox=nan;"),
    ],
    ids=["nan", "inf", "one of two parts", "the student's own"],
)
def test_the_error_names_the_loss_the_step_and_the_images_and_no_weight_has_moved(config, what, value, told):
    ran = Ran(config(BY_EPOCH), Poison(what, 3, value=value))
    page = ran.diary.steps[3]
    images = ", ".join(f"{sample.img_id} ({sample.img_path})" for sample in page["batch"]["data_samples"])
    assert ran.error.startswith(f"step 3 of 8 (epoch 2, 1 of 2): {told} images {images}. The step was not taken. ")
    key = "optim_wrapper.optimizer.lr" if what == "student" else f"model.terms.{what.split('.')[0]}.weight or "
    assert f"a lower {key}" in ran.error
    assert same(everything(ran.model), page["start"])
    saved = torch.load(ran.folder / "stopped_iter_2.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(saved[name], value) for name, value in ran.model.state_dict().items())


class Huge(Hook):
    """The student has two losses that fp32 holds, but not their sum."""

    def before_train(self, runner: Any) -> None:
        inner = runner.model.student.loss
        runner.model.student.loss = lambda *args: inner(*args) | dict.fromkeys(("loss_a", "loss_b"), torch.tensor(3e38))


def test_a_sum_that_overflows_is_a_fault_of_its_own(config):
    assert Ran(config(), Huge()).error.startswith("step 1 of 7: loss=inf; images ")


def test_the_norm_that_the_forward_pass_spoilt_is_named_and_put_back(config):
    ran = Ran(config(), Poison("maps", 2))
    assert "; student.backbone.bn1.running_mean was not finite either and is as before again. The step" in ran.error
    assert same(everything(ran.model), ran.diary.steps[2]["start"])


def test_in_iterations_resume_continues_exactly_at_the_step(config):
    """A critic, half-collected neurons and norms, all of which the step's forward pass had spoilt."""
    terms = TERMS | dict(neurons=NEURONS)
    whole = Ran(config(terms=terms))
    cfg = config(terms=terms)
    stopped = Ran(cfg, Poison("maps", 5))
    file = stopped.folder / "stopped_iter_4.pth"
    assert f"{file} holds the state before it, and --resume continues exactly there;" in stopped.error
    assert (stopped.folder / "last_checkpoint").read_text() == str(file)
    cfg.resume = True
    rest = Ran(cfg)
    losses = whole.diary.losses()
    assert losses[3]["loss_neurons"] == 0 < losses[7]["loss_neurons"]
    assert rest.diary.losses() == {step: losses[step] for step in (5, 6, 7)}
    assert same(everything(rest.model), everything(whole.model))


def test_in_epochs_the_last_checkpoint_is_exact_and_the_saved_state_repeats_the_epoch(config):
    whole = Ran(config(BY_EPOCH))
    cfg = config(BY_EPOCH)
    stopped = Ran(cfg, Poison("maps", 6))  # the second of epoch 3
    file, last = stopped.folder / "stopped_iter_5.pth", stopped.folder / "epoch_2.pth"
    assert f"--resume {file} repeats epoch 3 with the weights reached, --resume goes back to {last};" in stopped.error
    assert (stopped.folder / "last_checkpoint").read_text() == str(last)
    cfg.resume = True
    exact = Ran(cfg)
    assert sorted(exact.diary.steps) == [5, 6, 7, 8]
    assert same(everything(exact.model), everything(whole.model))
    cfg.load_from = str(file)
    nearer = Ran(cfg)
    assert sorted(nearer.diary.steps) == [5, 6, 7, 8]
    assert not nearer.error
    batches = [[one.img_id for one in run.diary.steps[5]["batch"]["data_samples"]] for run in (whole, nearer)]
    assert batches[0] == batches[1]
    start, reached = nearer.diary.steps[5]["start"], stopped.diary.steps[6]["start"]
    assert same(start, reached)


def test_in_the_first_epoch_resume_finds_the_saved_state(config):
    stopped = Ran(config(BY_EPOCH), Poison("imitation", 2))
    assert "stopped_iter_1.pth holds the state before it, and --resume repeats epoch 1" in stopped.error
    assert (stopped.folder / "last_checkpoint").read_text() == str(stopped.folder / "stopped_iter_1.pth")


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_a_weight_that_is_not_finite_stops_at_once_and_is_not_saved(config, action):
    ran = Ran(config(hook=dict(action=action)), Poison("weight", 3))
    assert "Nothing was saved: student.neck.lateral_convs.0.conv.weight was not finite even before" in ran.error
    assert "there is no checkpoint to go back to" in ran.error
    assert not list(ran.folder.glob("*.pth"))


class Overflow(Hook):
    """A norm's statistics overflow, which no loss of training shows."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == 3:
            runner.model.student.backbone.bn1.running_var[0] = float("inf")


def test_no_checkpoint_of_spoilt_statistics_is_written(config):
    ran = Ran(config(BY_EPOCH), Overflow())
    assert ran.error.startswith("student.backbone.bn1.running_var is not finite, so no checkpoint was written")
    assert f"go back to {ran.folder / 'epoch_1.pth'}" in ran.error
    assert not (ran.folder / "epoch_2.pth").exists()


# ------------------------------------------------------------ skip


def plain(model: Any, diary: Diary, leave_out: set[int], accumulate: int = 1) -> tuple[dict[str, Any], list[Any]]:
    """Weights and logged losses of a loop over the same batches without some; the random stream runs on."""
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    torch.set_rng_state(diary.steps[1]["stream"])
    model.train()
    told: list[Any] = []
    for step, page in diary.steps.items():
        if step not in leave_out:
            data = model.data_preprocessor(page["batch"], training=True)
            values = {k: sum(v) if isinstance(v, list) else v for k, v in model(**data, mode="loss").items()}
            total = sum(value for key, value in values.items() if "loss" in key)
            (total / accumulate).backward()
            told.append({"loss": total.item()} | {key: value.item() for key, value in values.items()})
        if step % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return everything(model), told


def fresh(ran: Ran, cfg: Config) -> Any:
    """The model as the run began with it."""
    model = MODELS.build(cfg.model)
    model.saves_adapters = True
    for name, value in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        value.data.copy_(ran.diary.steps[1]["start"][name])
    return model


@pytest.mark.parametrize("what", ["imitation", "maps"])
def test_a_skipped_step_never_was(config, what):
    """Momentum, weight decay, norm statistics, the critic and the random stream: to the bit."""
    cfg = config(terms=dict(imitation=tiny.imitation(), critic=CRITIC), hook=SKIP)
    ran = Ran(cfg, Poison(what, 1, 3, 4))
    weights, told = plain(fresh(ran, cfg), ran.diary, {1, 3, 4})
    assert not ran.error
    assert same(everything(ran.model), weights)
    assert [one for one in ran.diary.losses().values() if one] == told


def test_of_accumulated_steps_the_others_count(config):
    """Windows of two: the first spoilt, the second, both, none."""
    bad = {1, 4, 5, 6}
    terms = dict(imitation=tiny.imitation())
    cfg = config(terms=terms, hook=SKIP, optim_wrapper=dict(accumulative_counts=2, optimizer=SGD))
    cfg.train_cfg.max_iters = 8
    ran = Ran(cfg, Poison("maps", *bad))
    weights, _ = plain(fresh(ran, cfg), ran.diary, bad, accumulate=2)
    assert same(everything(ran.model), weights)
    assert same(ran.diary.steps[5]["start"], ran.diary.steps[7]["start"])


def test_skipped_steps_are_counted_logged_and_summed_up(config):
    cfg = config(hook=SKIP, log_level="INFO")
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor.window_size = 3
    ran = Ran(cfg, Poison("imitation", 2, 5, 6))
    hub = ran.runner.message_hub.log_scalars
    assert list(hub["train/skipped_steps"].data[0]) == [1, 2, 3]
    losses = [page["loss"] for page in ran.diary.losses().values() if page]
    assert len(losses) == 4
    assert list(hub["train/loss"].data[0]) == losses
    log = ran.log()
    assert "3 of 7 steps were skipped, for losses were not finite" in log
    assert log.count("loss_imitation=nan at strength") == 3
    lines = [line for line in log.splitlines() if "Iter(train)" in line]
    assert f" loss: {sum(losses[1:]) / 3:.4f} " in lines[-1]  # of the last three that count: steps 3, 4, 7
    assert "skipped_steps: 3" in lines[-1]
    assert "skipped_steps" not in lines[0]


def test_too_many_in_a_row_stop_the_run(config):
    spared = Ran(config(hook=dict(action="skip", limit=2)), Poison("imitation", 1, 2, 4, 5))
    assert not spared.error
    ran = Ran(config(hook=dict(action="skip", limit=2)), Poison("imitation", 3, 4, 5))
    assert ran.error.startswith("step 5 of 7: loss_imitation=nan")
    assert ", after 2 skipped in a row. The step was not taken." in ran.error
    assert same(everything(ran.model), ran.diary.steps[3]["start"])
    assert (ran.folder / "stopped_iter_4.pth").is_file()


# ------------------------------------------------------------ the hook itself


def test_with_the_hook_a_sound_run_is_the_same_to_the_bit_and_calls_no_collective(config, monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: pytest.fail("a collective was called"))
    cfg = config()
    guarded = Ran(cfg)
    cfg = config()
    cfg.custom_hooks.pop()
    bare = Ran(cfg)
    assert guarded.diary.losses() == bare.diary.losses()
    assert same(everything(guarded.model), everything(bare.model))


def test_every_shipped_config_stops(config):
    hooks = Config.fromfile(tiny.ROOT / "configs/_base_/distill.py").custom_hooks
    assert hooks[5] == dict(type="FiniteLossesHook", action="stop")  # as the README says


@pytest.mark.parametrize(
    ("change", "words"),
    [(dict(action="skipp"), r"action='skipp' .*did you mean 'skip'"), (dict(limit=0), "FiniteLossesHook.limit=0")],
)
def test_wrong_settings_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        FiniteLossesHook(**change)


# ------------------------------------------------------------ two processes


def two_processes(folder: Path, action: str) -> list[dict[str, Any]]:
    tiny.write_dataset(folder / "data", images=8)
    tiny.write_teacher(folder, tiny.faster_rcnn(12, 24))
    tiny.two_processes(finite_ranks.__file__, folder, action)
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(2)]


def test_where_one_rank_has_a_fault_all_stop_and_the_first_saves(tmp_path):
    first, second = two_processes(tmp_path, "stop")
    assert first["error"].startswith("step 3 of 6: losses of rank 1 are not finite, and its own error says which. The")
    images = ", ".join(second["images"][3])
    assert second["error"].startswith(f"step 3 of 6: on rank 1 loss_imitation=nan at strength 0.01; images {images}.")
    assert second["images"][3] != first["images"][3]
    assert max(first["waited"], second["waited"]) < 5
    saved = torch.load(tmp_path / "run/stopped_iter_2.pth", weights_only=True)
    assert saved["meta"]["iter"] == 2
    assert all(torch.equal(saved["state_dict"][key], value) for key, value in first["weights"].items())


def test_where_one_rank_has_a_fault_all_skip(tmp_path):
    first, second = two_processes(tmp_path, "skip")
    for rank in (first, second):
        assert rank["error"] == ""
        moved = [not torch.equal(a, b) for a, b in zip(rank["starts"], rank["starts"][1:], strict=False)]
        assert moved == [True, True, False, True, True]  # into steps 2 to 6
    assert all(torch.equal(a, b) for a, b in zip(first["starts"], second["starts"], strict=True))
