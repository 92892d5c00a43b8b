"""An interrupted run goes on as if it had not been, judged by the uninterrupted one, to the bit."""

import copy
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

import tiny
from det_distill.hooks import exact_resume
from det_distill.hooks.exact_resume import ExactResumeHook


class Losses(Hook):
    """Every step's losses, by step."""

    def __init__(self) -> None:
        self.seen = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen[runner.iter] = {key: value.item() for key, value in outputs.items()}


class InterruptEvaluation(Hook):
    """Stops a run amid the evaluation after so many steps."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at:
            raise KeyboardInterrupt


def run(cfg, stop: int | None = None, interrupt=tiny.Interrupt) -> tuple[dict, dict]:
    losses = Losses()
    runner = tiny.trained(cfg, losses, stop=None if stop is None else interrupt(stop))
    return losses.seen, runner.model.state_dict() | {f"terms.{k}": v for k, v in adapters(runner.model).items()}


def adapters(model) -> dict:
    return model.terms.state_dict() if hasattr(model, "terms") else {}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    teacher = tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))
    schedule = dict(type="Ramp", start=1, stop=3, begin=1, end=10)
    return tiny.distiller(tiny.faster_rcnn(), teacher, terms=dict(imitation=tiny.imitation(schedule=schedule)))


BY_EPOCH = dict(default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=True)))
BY_ITER = dict(
    default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=4, by_epoch=False)),
    train_cfg=dict(_delete_=True, type="IterBasedTrainLoop", max_iters=9, val_interval=100),
    train_dataloader=dict(sampler=dict(type="InfiniteSampler", shuffle=True)),
    log_processor=dict(by_epoch=False),
)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("loop", "stop"), [(BY_EPOCH, 6), (BY_ITER, 6)], ids=["epochs", "iterations"])
def test_the_next_losses_and_the_final_weights_are_the_uninterrupted_ones(tmp_path, data, model, loop, stop, workers):
    loaders = dict(train_dataloader=dict(num_workers=workers))

    def config(name):
        cfg = tiny.run_config(data, tmp_path / name, model)
        cfg.merge_from_dict(copy.deepcopy(loop))  # merging consumes `_delete_`
        cfg.merge_from_dict(loaders)
        return cfg

    whole, weights = run(config("whole"))
    run(config("parts"), stop=stop)
    again = config("parts")
    again.resume = True
    rest, resumed = run(again)

    assert min(rest) == 4  # the newest checkpoint is of four steps, in both loops
    assert rest == {step: value for step, value in whole.items() if step >= 4}
    assert all(torch.equal(weights[k], resumed[k]) for k in weights)


BEST = dict(save_best="coco/bbox_mAP", max_keep_ckpts=1)


@pytest.mark.parametrize("interrupt", [tiny.Interrupt, InterruptEvaluation], ids=["in training", "in evaluation"])
@pytest.mark.parametrize("loop", [BY_EPOCH, BY_ITER], ids=["epochs", "iterations"])
def test_evaluations_and_the_best_checkpoint_change_nothing(tmp_path, data, model, loop, interrupt):
    """An evaluation draws its loader's seed: the streams of checkpoints before and after it are not the same."""

    def config(name):
        cfg = tiny.run_config(data, tmp_path / name, model)
        cfg.merge_from_dict(copy.deepcopy(loop))
        cfg.train_cfg.val_interval = 4 if loop is BY_ITER else 1
        cfg.default_hooks.checkpoint.update(BEST)
        return cfg

    whole, weights = run(config("whole"))
    run(config("parts"), stop=8 if interrupt is InterruptEvaluation else 6, interrupt=interrupt)
    again = config("parts")
    again.resume = True
    rest, resumed = run(again)

    assert rest == {step: value for step, value in whole.items() if step >= min(rest)}
    assert min(rest) == (8 if interrupt is InterruptEvaluation else 4)
    assert all(torch.equal(weights[k], resumed[k]) for k in weights)
    files = [sorted(file.name for file in (tmp_path / name).glob("*.pth")) for name in ("whole", "parts")]
    assert files[0] == files[1]
    assert len(files[0]) == 2
    for name in files[0]:
        one, other = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ("whole", "parts"))
        assert all(torch.equal(one["state_dict"][k], other["state_dict"][k]) for k in one["state_dict"])
        assert drawn(one["random_streams"]) == drawn(other["random_streams"])


def drawn(streams, rank: int = 0) -> list[float]:
    """What each generator draws next, on one of as many processes as there are streams."""
    hook = ExactResumeHook()
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    told = []
    logger = SimpleNamespace(warning=told.append)
    processes = max(rank + 1, len(streams))
    runner = SimpleNamespace(_resume=True, rank=rank, world_size=processes, train_loop=loop, logger=logger)
    hook.after_load_checkpoint(runner, {"random_streams": streams})
    hook.before_train(runner)
    assert len(told) == (processes != (1 if isinstance(streams, dict) else len(streams)))
    return [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002


def seeded(seed: int) -> list[float]:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    return exact_resume.capture()


def next_of(seed: int) -> list[float]:
    seeded(seed)
    return [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002


def test_every_process_gets_its_own_streams_back(monkeypatch):
    hook, checkpoint = ExactResumeHook(), {}
    monkeypatch.setattr(exact_resume, "all_gather_object", lambda own: [own, seeded(2), seeded(3)])
    seeded(1)
    hook.before_checkpoint_of_all_ranks(None)
    hook.before_save_checkpoint(None, checkpoint)
    streams = checkpoint["random_streams"]
    assert [drawn(streams, rank) for rank in range(3)] == [next_of(1), next_of(2), next_of(3)]


def test_more_processes_than_before_draw_streams_of_their_own():
    streams = [seeded(1), seeded(2)]
    found = [drawn(streams, rank) for rank in range(4)]
    assert found[:2] == [next_of(1), next_of(2)]
    assert len({value for draws in found for value in draws}) == 12
    assert found[2:] == [drawn(streams, rank) for rank in (2, 3)]  # the next time too


def test_a_checkpoint_of_before_there_was_an_entry_per_process_resumes_to_the_bit():
    old = seeded(1)
    assert set(old) == {"torch", "cuda", "numpy", "python"}
    runner = SimpleNamespace(_resume=True, rank=0, world_size=1, train_loop=None, logger=None)
    hook = ExactResumeHook()
    hook.after_load_checkpoint(runner, {"random_streams": old})
    seeded(5)
    hook.before_train(runner)
    assert [torch.rand(()).item(), np.random.rand(), random.random()] == next_of(1)  # noqa: NPY002


def test_mmengines_own_checkpoint_hook_saves_the_streams_too(tmp_path, data, model):
    cfg = tiny.run_config(data, tmp_path / "run", model, train_cfg=dict(max_epochs=1, val_interval=2))
    cfg.default_hooks.checkpoint = dict(type="mmengine.CheckpointHook", interval=1)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    run(cfg)
    after = [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002 - the run drew no more
    assert drawn(torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)["random_streams"]) == after


def test_without_the_hook_the_same_interruption_shows(tmp_path, data, model):
    """The judge can fail: proposals are sampled from a stream nobody restored."""
    results = []
    for resume in (False, True):
        cfg = tiny.run_config(data, tmp_path / "run", model)
        cfg.merge_from_dict(BY_EPOCH | dict(resume=resume))
        cfg.custom_hooks = [dict(type="AdapterStateHook")]
        results.append(run(cfg, stop=None if resume else 6)[0])
    cfg = tiny.run_config(data, tmp_path / "whole", model)
    cfg.merge_from_dict(BY_EPOCH)
    whole, _ = run(cfg)
    assert results[1][5] != whole[5]


def test_the_checkpoint_is_the_plain_students(tmp_path, data, model):
    cfg = tiny.run_config(data, tmp_path / "run", model, train_cfg=dict(max_epochs=1))
    run(cfg)
    stock = tiny.run_config(data, tmp_path / "stock", tiny.faster_rcnn(), train_cfg=dict(max_epochs=1))
    run(stock)
    file, stock_file = (tmp_path / name / "epoch_1.pth" for name in ("run", "stock"))
    checkpoint = torch.load(file, weights_only=True)

    plain = MODELS.build(tiny.faster_rcnn())
    assert plain.load_state_dict(checkpoint["state_dict"], strict=True).unexpected_keys == []
    adapters = checkpoint["distill"]["terms"]
    assert set(checkpoint["distill"]) == {"terms"}
    assert all(key.startswith("imitation.adapters.") for key in adapters)
    # twice, for SGD keeps a momentum of each; the random streams and the longer config text take some kB
    extra = 2 * sum(value.nbytes for value in adapters.values())
    assert file.stat().st_size - extra == pytest.approx(stock_file.stat().st_size, rel=0.01, abs=30_000)


def test_adapters_nobody_saves_stop_the_run_at_once(tmp_path, data, model):
    cfg = tiny.run_config(data, tmp_path / "run", model)
    cfg.custom_hooks = []
    with pytest.raises(RuntimeError, match="AdapterStateHook"):
        Runner.from_cfg(cfg).train()


def test_a_stock_checkpoint_cannot_be_resumed_but_can_be_started_from(tmp_path, data, model):
    run(tiny.run_config(data, tmp_path / "stock", tiny.faster_rcnn(), train_cfg=dict(max_epochs=1)))
    cfg = tiny.run_config(data, tmp_path / "run", model, load_from=str(tmp_path / "stock/epoch_1.pth"))
    cfg.resume = True
    with pytest.raises(ValueError, match=r"no entry 'distill'.*load_from"):
        run(cfg)
    cfg = tiny.run_config(data, tmp_path / "run2", model, load_from=str(tmp_path / "stock/epoch_1.pth"))
    cfg.train_cfg.max_epochs = 1
    run(cfg)


def test_the_logs_name_every_term(tmp_path, data, model):
    losses, _ = run(tiny.run_config(data, tmp_path / "run", model, train_cfg=dict(max_epochs=1)))
    assert {"loss", "loss_imitation", "loss_cls", "loss_rpn_bbox"} <= set(losses[0])


def test_a_critic_and_half_collected_neurons_resume_to_the_bit(tmp_path, data, model):
    terms = dict(
        critic=dict(type="Holistic", tap="neck", adapter=dict(type="ConvAdapter", kernel=1), size=8, width=4, weight=1),
        neurons=dict(type="NeuronSelection", budget=4, samples=60, weight=1),
    )
    distilled = dict(model, terms=terms)

    def config(name):
        cfg = tiny.run_config(data, tmp_path / name, distilled)
        cfg.merge_from_dict(copy.deepcopy(BY_ITER))
        return cfg

    whole, weights = run(config("whole"))
    run(config("parts"), stop=6)
    saved = torch.load(tmp_path / "parts/iter_4.pth", weights_only=True)["distill"]["terms"]
    assert saved["neurons._extra_state"]["neurons"] is None
    assert len(saved["neurons._extra_state"]["seen"]) == 4
    again = config("parts")
    again.resume = True
    rest, resumed = run(again)

    assert rest == {step: value for step, value in whole.items() if step >= 4}
    assert whole[3]["loss_neurons"] == 0 < rest[8]["loss_neurons"]
    states = [weights.pop("terms.neurons._extra_state"), resumed.pop("terms.neurons._extra_state")]
    assert states[0]["neurons"].equal(states[1]["neurons"])
    assert not states[0]["seen"]
    assert not states[1]["seen"]
    assert all(torch.equal(weights[k], resumed[k]) for k in weights if not k.endswith("_extra_state"))
