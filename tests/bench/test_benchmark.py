"""Times of each part of a step, and what may be asked of the tools that take them."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import tiny
from det_distill.bench import growth as growing
from det_distill.bench.benchmark import benchmark
from det_distill.bench.growth import growth, medians, slopes
from det_distill.bench.untrained import drawn, without_files
from det_distill.building import build_detector


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A distillation config whose teacher has no checkpoint."""
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(12))
    Path(teacher["checkpoint"]).unlink()
    model = tiny.distiller(tiny.faster_rcnn(), teacher, terms=dict(near=tiny.imitation()))
    Config(dict(model=model)).dump(tmp_path / "distil.py")
    return str(tmp_path / "distil.py")


def test_a_table_and_a_file_tell_every_time(config: str, tmp_path: Path):
    told = benchmark([config], steps=2, batch=1, shape=(64, 96), out=str(tmp_path / "times.json"), untrained=True)
    row = [cell.strip() for cell in next(line for line in told.splitlines() if config in line).split("|")]
    found = json.loads((tmp_path / "times.json").read_text())["seconds"][config]
    assert len(found) == 2
    assert all(0 < teacher < whole and own > 0 for own, teacher, whole in found)
    overheads = sorted(whole / (own + teacher) for own, teacher, whole in found)
    assert row[6] == f"{sum(overheads) / 2:.3f}"


def test_a_teacher_nobody_asks_takes_no_time(config: str, tmp_path: Path):
    options = {"model.terms.near.weight": 0.0}
    out = str(tmp_path / "times.json")
    benchmark([config], steps=1, batch=1, shape=(64, 96), out=out, untrained=True, cfg_options=options)
    [[own, teacher, _]] = json.loads(Path(out).read_text())["seconds"][config]
    assert teacher < own / 100


def test_without_a_checkpoint_and_without_untrained_it_is_missed(config: str):
    with pytest.raises(FileNotFoundError, match="teacher"):
        benchmark([config], steps=1, shape=(64, 96))
    with pytest.raises(ValueError, match="steps=0"):
        benchmark([config], steps=0)


def test_weights_are_drawn_for_every_teacher(config: str, tmp_path: Path):
    assert list(drawn(config, str(tmp_path))) == ["model.teacher.checkpoint"]
    cfg = Config.fromfile(config)
    cfg.model.teacher = dict(a=cfg.model.teacher, b=cfg.model.teacher)
    cfg.dump(tmp_path / "two.py")
    found = drawn(str(tmp_path / "two.py"), str(tmp_path))
    assert list(found) == ["model.teacher.a.checkpoint", "model.teacher.b.checkpoint"]
    assert len({*found.values()}) == 2
    expected = build_detector(Config.fromfile(cfg.model.teacher.a.config).model).state_dict()
    assert all(torch.load(file).keys() == expected.keys() for file in found.values())


@pytest.mark.parametrize("tool", [growth, lambda config: benchmark([config], shape=(64, 96), untrained=True)])
def test_a_config_without_a_teacher_is_refused_by_name(tool, tmp_path: Path):
    Config(dict(model=tiny.faster_rcnn())).dump(tmp_path / "alone.py")
    with pytest.raises(ValueError, match=r"alone\.py: model\.type='FasterRCNN'; a Distiller is expected"):
        tool(str(tmp_path / "alone.py"))


def test_no_file_is_named_any_more():
    cfg = dict(backbone=dict(init_cfg=dict(checkpoint="a"), depth=1), heads=[dict(init_cfg=1), (dict(init_cfg=2),)])
    assert without_files(cfg) == dict(backbone=dict(depth=1), heads=[{}, ({},)])


# ---------------------------------------------------------------- growth


def test_slopes_are_those_of_powers():
    curve = [(n, [1.0, 1.0, 9.0], [1 + n**1.5, 0.5, 100 + n]) for n in (1, 2, 4)]  # medians: 1, and 1 + n ** 1.5
    assert medians(curve) == [(n, 1.0, 1 + n**1.5) for n in (1, 2, 4)]
    step, added = slopes(curve)
    assert added == pytest.approx(1.5)
    assert 0 < step < 1.5
    assert math.isnan(slopes([(1, [1.0], [1.0]), (2, [1.0], [2.0])])[1])


def test_five_plots_and_a_table_come_out(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growing, "SHAPE", (64, 96))
    monkeypatch.setattr(growing, "SIZES", (1.0, 4.0))
    monkeypatch.setattr(growing, "GROWING", dict(images=(1, 2), boxes=(1, 3), terms=(1, 2), teachers=(1, 2)))
    told = growth(config, rounds=1, folder=str(tmp_path / "plots"))
    found = json.loads((tmp_path / "plots" / "growth.json").read_text())["seconds"]
    assert {one.stem for one in (tmp_path / "plots").glob("*.png")} == {*found}
    for axis, amounts in dict(pixels=[6144, 24576], images=[1, 2], boxes=[1, 3], terms=[1, 2], teachers=[1, 2]).items():
        assert [amount for amount, _, _ in found[axis]] == amounts
        assert axis in told
