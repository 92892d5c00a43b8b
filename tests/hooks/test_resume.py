"""An interrupted run goes on as if it had not been, judged by the uninterrupted one, to the bit."""

import copy
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.runner import Runner

import tiny


class Losses(Hook):
    """Every step's losses, by step."""

    def __init__(self) -> None:
        self.seen = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen[runner.iter] = {key: value.item() for key, value in outputs.items()}


def run(cfg, stop: int | None = None) -> tuple[dict, dict]:
    runner = Runner.from_cfg(cfg)
    losses = Losses()
    runner.register_hook(losses)
    if stop is not None:
        runner.register_hook(tiny.Interrupt(stop))
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    else:
        runner.train()
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
    assert rest[4]["loss_neurons"] == 0 < rest[8]["loss_neurons"]
    states = [weights.pop("terms.neurons._extra_state"), resumed.pop("terms.neurons._extra_state")]
    assert states[0]["neurons"].equal(states[1]["neurons"])
    assert not states[0]["seen"]
    assert not states[1]["seen"]
    assert all(torch.equal(weights[k], resumed[k]) for k in weights if not k.endswith("_extra_state"))
