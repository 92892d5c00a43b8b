"""The tools as a user runs them, on a data set and detectors small enough for a test."""

import copy
import json
from pathlib import Path

import pytest
import torch

import tiny
from det_distill.demo import table

ROOT = Path(__file__).parents[1]


def tool(name: str, *args: object, ok: bool = True) -> str:
    done = tiny.tool(name, *args)
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done.stderr if not ok else done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with data, a teacher and the config of a distillation of one epoch."""
    folder = tmp_path_factory.mktemp("run")
    data = tiny.write_dataset(folder / "data")
    teacher = tiny.write_teacher(folder, tiny.faster_rcnn(16, 24))
    model = tiny.distiller(tiny.faster_rcnn(), teacher)
    cfg = tiny.run_config(data, folder / "out", model, train_cfg=dict(max_epochs=2, val_interval=2))
    cfg.log_level = "INFO"
    cfg.custom_imports = dict(imports=["det_distill.plugins"])
    cfg.dump(folder / "config.py")
    return folder


@pytest.fixture(scope="module")
def checkpoint(place) -> Path:
    tool("train", place / "config.py", "--cfg-options", "default_hooks.logger.interval=1")
    return place / "out/epoch_2.pth"


def test_training_writes_the_students_checkpoint_and_logs_each_term(place, checkpoint):
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert "backbone.conv1.weight" in weights
    [log] = (place / "out").glob("*/vis_data/scalars.json")
    assert "loss_imitation" in json.loads(log.read_text().splitlines()[0])


def first_step(folder: Path) -> dict[str, float]:
    [log] = folder.glob("*/vis_data/scalars.json")
    return json.loads(log.read_text().splitlines()[0])


@pytest.mark.parametrize("option", ["model.terms.imitation.weight=0.02", "model.terms.imitation=None"])
def test_a_term_is_changed_or_left_out_from_the_command_line(place, checkpoint, tmp_path, option):
    options = ("default_hooks.logger.interval=1", "train_cfg.max_epochs=1", option)
    tool("train", place / "config.py", "--work-dir", tmp_path, "--cfg-options", *options)
    before, after = first_step(place / "out"), first_step(tmp_path)
    if option.endswith("None"):
        assert "loss_imitation" in before
        assert "loss_imitation" not in after
        assert not torch.load(tmp_path / "epoch_1.pth", weights_only=True)["distill"]["terms"]
    else:
        assert after["loss_imitation"] == pytest.approx(2 * before["loss_imitation"])
    assert after["loss_rpn_cls"] == before["loss_rpn_cls"]  # the student's stream is the same


def test_testing_needs_no_teacher_and_gives_the_plain_students_numbers(place, checkpoint):
    """Judged by stock MMEngine on the student's own config."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    absent = "model.teacher.checkpoint=nowhere.pth"
    tool("test", place / "config.py", checkpoint, "--work-dir", place / "test", "--cfg-options", absent)
    [result] = (place / "test").glob("*/*.json")
    ours = json.loads(result.read_text())

    cfg = Config.fromfile(place / "config.py")
    cfg.merge_from_dict(dict(load_from=str(checkpoint), work_dir=str(place / "stock"), custom_hooks=[]))
    cfg.model = copy.deepcopy(tiny.faster_rcnn())
    stock = Runner.from_cfg(cfg).test()
    assert {k: ours[k] for k in stock} == stock


def test_resume_goes_on_from_the_latest_checkpoint(place, checkpoint):
    out = tool("train", place / "config.py", "--resume", "--cfg-options", "train_cfg.max_epochs=3")
    assert "resumed epoch: 2" in out
    assert (place / "out/epoch_3.pth").is_file()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("train", "configs/bccd/faster-rcnn_r18_fpn_techer.py"), "did you mean .*fpn_teacher.py"),
        (("train", "mmdet::faster_rcnn/no.py"), "mmdet::faster_rcnn/no.py.*no stock config"),
        (("test", "{place}/config.py", "{place}/out/epoch_8.pth"), "epoch_8.pth not found"),
        (("train", "{place}/config.py", "--resume", "{place}/nothing.pth"), "nothing.pth not found"),
        (
            ("train", "{place}/config.py", "--cfg-options", "model.teacher.checkpoint=x.pth"),
            "checkpoint x.pth not found",
        ),
        (("test", "{place}/config.py", "{place}/teacher.pth", "--out", "a.json"), "--out a.json.*pickle"),
    ],
)
def test_what_is_not_there_is_named(place, args, words):
    error = tool(*(a.format(place=place) for a in args), ok=False)
    assert __import__("re").search(words, error.splitlines()[-1])


def test_a_corrupt_image_is_named(place, tmp_path):
    data = tiny.write_dataset(tmp_path / "data")
    (data / "images/3.png").write_bytes(b"no image")
    error = tool("train", place / "config.py", "--work-dir", tmp_path / "w", "--cfg-options",
                 f"train_dataloader.dataset.data_root={data}", ok=False)  # fmt: skip
    assert "images/3.png" in error.splitlines()[-1]


def test_the_table_aligns():
    assert table([["a", "b"], ["long", "1"]]).splitlines() == ["| a    | b |", "|------|---|", "| long | 1 |"]
