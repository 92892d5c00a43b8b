"""Every distillation config that ships is wired: student, teacher, taps, strides, anchors, classes."""

from pathlib import Path

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

import tiny

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs/fgfi").glob("*.py"))


@pytest.fixture
def build(monkeypatch):
    """A shipped config's Distiller; its teacher keeps random weights, for nobody has the file here."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("det_distill.teacher.load_strictly", lambda *_: None)
    return lambda path: MODELS.build(Config.fromfile(path).model)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_wired_and_its_student_is_the_base_configs(path, build):
    distiller, cfg = build(path), Config.fromfile(path)
    assert len(distiller.terms["imitation"].adapters) > 0
    assert {hook["type"] for hook in cfg.custom_hooks} == {"AdapterStateHook", "ExactResumeHook"}
    base = ROOT / path.parent / next(line for line in path.read_text().splitlines() if "_base_ =" in line).split('"')[1]
    assert cfg.model.student == Config.fromfile(base).model


@pytest.mark.parametrize("name", ["digits_r18-half_r18-quarter", "bccd_r18_r18-half"])
def test_the_small_ones_learn_in_one_step(name, build):
    distiller = build(f"configs/fgfi/{name}.py")
    distiller.init_weights()
    losses = tiny.losses(distiller, tiny.batch())
    assert losses["loss_imitation"] == 0  # the warm-up begins at nothing
    distiller.terms["imitation"].schedule = None
    assert tiny.losses(distiller, tiny.batch())["loss_imitation"] > 0
