"""Overrides and the nearest names."""

from pathlib import Path

import pytest

from det_distill.configs import load_config, override
from det_distill.refusals import suggestion

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "root"), [("bccd_r18_r18-half", "../shared/data/bccd"), ("digits_r18-half_r18-quarter", "data/digits")]
)
def test_a_new_data_root_moves_every_path_below_it(name, root):
    cfg = load_config(str(ROOT / f"configs/fgfi/{name}.py"), "config")
    assert cfg.data_root == root
    override(cfg, {"data_root": "/elsewhere/", "model.terms.imitation.weight": 2})
    assert root not in cfg.pretty_text
    for split in ("train", "val", "test"):
        assert cfg[f"{split}_dataloader"].dataset.data_root == "/elsewhere"
    if name.startswith("digits"):
        assert cfg.val_evaluator.ann_file == "/elsewhere/annotations/val.json"
    assert cfg.model.terms.imitation.weight == 2


def test_without_one_nothing_moves():
    cfg = load_config(str(ROOT / "configs/fgfi/bccd_r18_r18-half.py"), "config")
    before = cfg.pretty_text
    override(cfg, None)
    assert cfg.pretty_text == before


@pytest.mark.parametrize(("found", "hint"), [("nekc", ", did you mean 'neck'?"), ("zzz", "")])
def test_a_suggestion_is_near_or_none(found, hint):
    assert suggestion(found, ("neck", "backbone")) == hint


def test_a_detector_with_hooks_of_its_own_is_told_how(tmp_path: Path):
    config = tmp_path / "a.py"
    config.write_text(f'_base_ = ["mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py", "{ROOT}/configs/_base_/distill.py"]\n')
    with pytest.raises(ValueError, match=r"Duplicate keys: \{'custom_hooks'\}.*\[\*_base_\.custom_hooks, dict\("):
        load_config(str(config), "config")


def test_of_another_key_that_two_bases_set_nothing_is_told_of_hooks(tmp_path: Path):
    for name in "ab":
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "c.py").write_text('_base_ = ["a.py", "b.py"]\n')
    with pytest.raises(ValueError, match=r"Duplicate keys: \{'x'\}\"?$"):
        load_config(str(tmp_path / "c.py"), "config")
