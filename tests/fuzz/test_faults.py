"""Faults that the fuzzing found in configs and checkpoints, each by itself."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict

import tiny
from det_distill.building import build_detector
from det_distill.compat import checkpoints
from det_distill.compat.config_text import read_config_text
from det_distill.configs import load_config, override
from det_distill.refusals import at_least, choice, only_keys
from det_distill.views.families import view_of
from det_distill.weights import fill


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "mmengine.load", "mmengine.fileio.load", "torch.hub.load"),
        *("mmengine.config.Config.fromfile", "torch.load"),
    ],
)
def test_a_type_in_a_checkpoints_config_calls_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=rf"line 2 of the config names by type='{name}' what could run code"):
        read_config_text(f"a = 1\nmodel = dict(neck=[dict(type='{name}')])")


@pytest.mark.parametrize(
    "name",
    ["RetinaNet", "mmdet.RetinaNet", "det_distill.models.rfcn.RFCN", "mmdet.models.detectors.rpn.RPN", "a.b"][:4],
)
def test_a_class_at_its_own_address_may_be_named(name: str) -> None:
    assert read_config_text(f"model = dict(type='{name}')") == dict(model=dict(type=name))


@pytest.mark.parametrize("file", ["http://x/a.pkl", "a.PICKLE", "a.yaml", "a.yml"])
def test_a_file_that_runs_code_when_loaded_is_not_named(file: str) -> None:
    with pytest.raises(ValueError, match=r"line 1 of the config names .* which could run code when loaded"):
        read_config_text(f"data = dict(proposal_file='{file}')")


SIGNS = "a = " + "-" * 9000 + "1"  # deeper than Python's stack


@pytest.mark.parametrize("text", ["a = {[]: 1}", "a = {[1]}", SIGNS, "\0", "\ud800", 7, None, b"a=1"], ids=range(8))
def test_what_python_cannot_read_is_one_error(text: Any) -> None:
    with pytest.raises(ValueError, match=r"the config is no") as caught:
        read_config_text(text)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize(
    "weight",
    [
        torch.full((2, 3), float("nan")),
        torch.zeros(2, 3, device="meta"),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3, dtype=torch.complex64),
    ],
    ids=["nan", "meta", "sparse", "complex"],
)
def test_weights_that_are_no_numbers_are_named(weight: torch.Tensor) -> None:
    state = dict(torch.nn.Linear(3, 2).state_dict(), weight=weight)
    with pytest.raises(ValueError, match=r"a\.pth does not fit it; 1 NaN or no plain numbers: weight"):
        fill(torch.nn.Linear(3, 2), dict(state_dict=state), "a.pth", "it")


def test_a_zip_bomb_is_no_checkpoint(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state_dict=dict(w=torch.zeros(1 << 20))), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "e.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match=r"e\.pth .*its members would unpack to \d{7} bytes"):
        checkpoints.load(tmp_path / "e.pth")


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/a.pth", "a\0b"])
def test_a_name_that_no_file_can_have_is_not_found(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"checkpoint .* not found"):
        checkpoints.load(name)
    with pytest.raises(FileNotFoundError, match=r"config=.* not found"):
        load_config(name, "config")


CONTENTS = ["_base_ = 'a.py'", "_base_ = 'none.py'", "a =", "raise KeyError('x')", "model = dict(\xff"]


@pytest.mark.parametrize("content", CONTENTS, ids=["circle", "no base", "half", "raises", "encoding"])
def test_a_config_that_cannot_be_read_is_one_error_with_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.py").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config='.*a\.py' cannot be read: \S+"):
        load_config(str(tmp_path / "a.py"), "config")


@pytest.mark.parametrize("suffix", ["txt", "json", "yaml"])
def test_what_is_no_config_is_one_error_with_its_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_text("[1, {")
    with pytest.raises(ValueError, match=rf"config='.*a\.{suffix}' cannot be read"):
        load_config(str(tmp_path / f"a.{suffix}"), "config")


@pytest.mark.parametrize("model", ["7", "None", "[]", "'RPN'"])
def test_a_model_that_is_no_dict_is_none(tmp_path: Path, model: str) -> None:
    (tmp_path / "a.py").write_text(f"model = {model}")
    with pytest.raises(ValueError, match="describes no model"):
        load_config(str(tmp_path / "a.py"), "config")


@pytest.mark.parametrize("option", ["hooks.9.type", "hooks.x", "model.type.x"])
def test_an_option_that_fits_nothing_is_named(option: str) -> None:
    cfg = Config(dict(hooks=[dict(type="a")], model=dict(type="b")))
    with pytest.raises(ValueError, match=rf"--cfg-options {option}: \S+"):
        override(cfg, {option: 1})


@pytest.mark.parametrize("found", [float("inf"), float("nan"), "1", None, [], 10**400, 1j])
def test_a_weight_that_is_no_finite_number_is_named(found: Any) -> None:
    with pytest.raises(ValueError, match=r"weight=.*; a number of at least 0 is expected"):
        at_least("weight", found, 0)


@pytest.mark.parametrize("found", [None, 7, [], {}, float("nan")])
def test_a_choice_that_is_no_text_is_named(found: Any) -> None:
    with pytest.raises(ValueError, match=r"kind=.* is none of 'a', 'b'"):
        choice("kind", found, ("a", "b"))


@pytest.mark.parametrize("found", [7, None, "dict", 0.5, [], (), ["config"]])
def test_what_is_no_dict_is_told(found: Any) -> None:
    with pytest.raises(ValueError, match=r"teacher=.*; a dict is expected"):
        only_keys(found, ("config",), "teacher")


def test_a_pyramid_without_an_end_is_refused_before_it_is_run() -> None:
    model = tiny.faster_rcnn()
    model.neck.num_outs = 10**9
    with pytest.raises(ValueError, match=r"the student's neck\.num_outs=1000000000; at most 32 levels are expected"):
        view_of(build_detector(model), "student").dry_run(["neck"])


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("backbone.depth", "x", r"model\.backbone, type='ResNet': KeyError 'invalid depth x"),
        ("neck.num_outs", -1, r"model\.neck, type='FPN': AssertionError"),
        ("rpn_head.loss_cls.type", "Nope", r"model\.rpn_head\.loss_cls, type='Nope': KeyError"),
        ("roi_head.bbox_head.num_classes", "a", r"model\.roi_head\.bbox_head, type='Shared2FCBBoxHead': "),
        ("backbone.norm_cfg.type", 0.5, r"model\.backbone, type='ResNet': "),
        ("nekc", {}, r"model, type='FasterRCNN': .*nekc"),
    ],
)
def test_a_detector_that_cannot_be_built_names_the_part(path: str, value: Any, told: str) -> None:
    cfg = Config(dict(model=tiny.faster_rcnn()))
    cfg.merge_from_dict({f"model.{path}": value})
    with pytest.raises(ValueError, match=told):
        build_detector(ConfigDict(cfg.model))
