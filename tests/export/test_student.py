"""An exported student is a plain detector: stock MMDetection loads it strictly and it predicts the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

import tiny
from det_distill.export.student import export_student

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of one distilled epoch, on a pyramid and on R-FCN."""
    folder = tmp_path_factory.mktemp("runs")
    data = tiny.write_dataset(folder / "data")
    found = {}
    for name, build in (("fpn", tiny.faster_rcnn), ("rfcn", tiny.rfcn)):
        (folder / name).mkdir()
        student = build()
        student.type = student.type.split(".")[-1]  # by name, so that somebody has to import it
        model = tiny.distiller(student, tiny.write_teacher(folder / name, build(16)))
        cfg = tiny.run_config(data, folder / name / "run", model)
        cfg.train_cfg.max_epochs = 1
        cfg.custom_imports = dict(imports=["det_distill.plugins"])
        Runner.from_cfg(cfg).train()
        found[name] = folder / name / "run/epoch_1.pth"
    return found


@pytest.mark.parametrize("kind", ["fpn", "rfcn"])
def test_the_exported_config_alone_builds_what_the_exported_weights_fill(
    trained: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    weights, config = export_student(str(trained[kind]), str(tmp_path / "out/student.pth"))
    cfg = Config.fromfile(config)
    detector = MODELS.build(cfg.model)
    run = torch.load(trained[kind], weights_only=True)
    out = torch.load(weights, weights_only=True)
    detector.load_state_dict(out["state_dict"], strict=True)

    assert cfg.model.type == dict(fpn="FasterRCNN", rfcn="RFCN")[kind]
    assert all(value.equal(run["state_dict"][key]) for key, value in out["state_dict"].items())
    assert list(out["state_dict"]) == list(run["state_dict"])
    assert set(out) == {"meta", "state_dict"}  # no optimiser, no adapters, no random streams
    assert "det_distill" not in cfg.pretty_text or kind == "rfcn"
    assert cfg.get("custom_imports", {}).get("imports") == dict(fpn=None, rfcn=["det_distill.models.rfcn"])[kind]
    assert not {"work_dir", "load_from"} & set(cfg)
    assert cfg.train_dataloader.dataset.ann_file == "all.json"  # data and schedule stay
    assert sorted(path.name for path in weights.parent.iterdir()) == ["student.pth", "student.py"]


def test_mmdetection_s_inferencer_needs_nothing_but_the_file(trained: dict[str, Path], tmp_path: Path) -> None:
    weights, config = export_student(str(trained["fpn"]), str(tmp_path / "student.pth"))
    image = str(trained["fpn"].parents[2] / "data/images/0.png")
    Config(dict(Config.fromfile(config), model=tiny.faster_rcnn())).dump(tmp_path / "stock.py")
    stock = DetInferencer(str(tmp_path / "stock.py"), str(trained["fpn"]), device="cpu", show_progress=False)
    alone = DetInferencer(weights=str(weights), device="cpu", show_progress=False)
    found, expected = (one(image, pred_score_thr=0.0)["predictions"][0] for one in (alone, stock))
    assert found["bboxes"]
    assert found == expected


def test_a_checkpoint_that_asks_to_run_something_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    loaded = torch.load(trained["fpn"], weights_only=True)
    loaded["meta"]["cfg"] = f"import pathlib\npathlib.Path('{tmp_path}/ran').touch()\nmodel = dict(type='RPN')"
    torch.save(loaded, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth, meta\.cfg: line 1 .* no plain assignment: import pathlib; name"):
        export_student(str(tmp_path / "evil.pth"), str(tmp_path / "student.pth"))
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "student.pth").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], r"does not say its config \(meta\.cfg\)"),
        (dict(meta=dict(cfg="filename = 1")), r"meta\.cfg: .*filename.*--config"),
    ],
    ids=["a list", "a name that MMEngine keeps"],
)
def test_a_file_that_is_no_run_s_is_refused(tmp_path: Path, content: Any, told: str) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=told):
        export_student(str(tmp_path / "odd.pth"), str(tmp_path / "student.pth"))


def test_without_a_config_in_the_checkpoint_one_is_asked_for_and_serves(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    loaded = torch.load(trained["fpn"], weights_only=True)
    text = loaded["meta"].pop("cfg")
    torch.save(loaded, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"does not say its config \(meta\.cfg\); name it: --config CONFIG"):
        export_student(str(tmp_path / "bare.pth"), str(tmp_path / "student.pth"))
    (tmp_path / "run.py").write_text(text)
    weights, _ = export_student(str(tmp_path / "bare.pth"), str(tmp_path / "student.pth"), str(tmp_path / "run.py"))
    assert weights.is_file()


def test_weights_of_another_student_are_listed_and_nothing_is_written(trained: dict[str, Path], tmp_path: Path) -> None:
    loaded = torch.load(trained["fpn"], weights_only=True)
    del loaded["state_dict"]["backbone.conv1.weight"]
    torch.save(loaded, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"does not fit the student's config; 1 weights missing: backbone\.conv1"):
        export_student(str(tmp_path / "cut.pth"), str(tmp_path / "out/student.pth"))
    assert not (tmp_path / "out").exists()


def test_the_tool_says_what_it_wrote_and_what_it_wants(trained: dict[str, Path], tmp_path: Path) -> None:
    fine = tiny.tool("export_student", trained["fpn"], tmp_path / "student.pth")
    assert f"{tmp_path / 'student.pth'} (" in fine.stdout  # the onedl stack prints lines of its own before
    wrong = tiny.tool("export_student", trained["fpn"], tmp_path / "student")
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("a file name ending in .pth is expected\n")


def test_with_onnx_a_graph_of_the_training_s_size_lies_beside_the_weights(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="an optional package is not installed")
    written = export_student(str(trained["fpn"]), str(tmp_path / "student.pth"), onnx=True)
    assert [path.name for path in written] == ["student.pth", "student.py", "student.onnx"]
    assert "detections on 4 images are torch's or the graph's alone" in capsys.readouterr().out
    [image] = runtime.InferenceSession(str(written[2]), providers=["CPUExecutionProvider"]).get_inputs()
    assert image.shape == [1, 3, 64, 96]


def test_images_larger_than_the_graph_are_named(trained: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"test_dataloader\.dataset: no image fits into 32x32; see --shape"):
        export_student(str(trained["fpn"]), str(tmp_path / "student.pth"), onnx=True, shape=(32, 32))
