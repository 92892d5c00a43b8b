"""The teacher's mAP: a detector that repeats the truth has 1, shuffled weights have none and are refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData

import tiny
from det_distill.hooks.teacher_check import TeacherCheckHook
from det_distill.teachers.check import teacher_map
from det_distill.teachers.teacher import Teacher

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Config:
    """A distillation config over eight images; its teacher has random weights."""
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24, mean=[1.0, 2, 3], std=[4.0, 5, 6]))
    data = tiny.write_dataset(tmp_path / "data")
    return tiny.run_config(data, tmp_path / "run", tiny.distiller(tiny.faster_rcnn(), teacher))


class Oracle:
    """Stands in for a detector's `predict`: the truth of the first `known` boxes of every image, shifted."""

    def __init__(self, cfg: Config, known: int = 99, shift: float = 0.0) -> None:
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.truth = {info["img_id"]: info["instances"][:known] for info in infos}
        self.shift, self.seen = shift, []

    def __call__(self, inputs: torch.Tensor, samples: list[Any], rescale: bool = True) -> list[Any]:
        self.seen.append((inputs, samples))
        for sample in samples:
            own = self.truth[sample.img_id]
            boxes = torch.tensor([one["bbox"] for one in own]).reshape(-1, 4) + self.shift
            labels = torch.tensor([one["bbox_label"] for one in own], dtype=torch.long)
            sample.pred_instances = InstanceData(bboxes=boxes, labels=labels, scores=torch.ones(len(own)))
        return samples


def taught_by(oracle: Any, cfg: Config) -> Teacher:
    teacher = Teacher.from_config(cfg.model.teacher)
    teacher.detector.predict = oracle
    return teacher


def test_a_teacher_that_repeats_the_truth_has_map_1(run: Config) -> None:
    assert teacher_map(taught_by(Oracle(run), run), run, images=8) == 1


def test_boxes_a_pixel_off_count_at_the_looser_thresholds_alone(run: Config) -> None:
    """1 px off in x and y, a box of w by h has IoU i / (2wh - i) with i = (w-1)(h-1)."""
    oracle = Oracle(run, shift=1.0)
    sides = [
        (one["bbox"][2] - one["bbox"][0], one["bbox"][3] - one["bbox"][1])
        for own in oracle.truth.values()
        for one in own
    ]
    ious = [(w - 1) * (h - 1) / (2 * w * h - (w - 1) * (h - 1)) for w, h in sides]
    thresholds = np.arange(0.5, 1, 0.05)
    lowest = float(np.mean(thresholds <= min(ious)))  # every box is found at these

    assert min(ious) < 0.95
    assert lowest <= teacher_map(taught_by(oracle, run), run, images=8) <= float(np.mean(thresholds <= max(ious)))


def test_a_teacher_that_finds_nothing_has_map_0(run: Config) -> None:
    assert teacher_map(taught_by(Oracle(run, known=0), run), run, images=8) == 0


@pytest.mark.parametrize("images", [1, 3, 8, 50])
def test_it_looks_at_so_many_images_spread_from_first_to_last(run: Config, images: int) -> None:
    oracle = Oracle(run)
    teacher_map(taught_by(oracle, run), run, images)
    seen = [sample.img_id for _, samples in oracle.seen for sample in samples]
    assert len(seen) == len(set(seen)) == min(images, 8)
    assert seen[0] == 0
    assert images == 1 or seen[-1] == 7


def test_the_teacher_s_own_pipeline_and_normalisation_feed_it(run: Config, tmp_path: Path) -> None:
    path = tmp_path / "teacher.py"
    own = Config.fromfile(path)
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(192, 128), keep_ratio=True),
        dict(type="PackDetInputs"),
    ]
    Config(dict(own, test_dataloader=dict(dataset=dict(pipeline=pipeline)))).dump(path)
    oracle = Oracle(run)

    assert teacher_map(taught_by(oracle, run), run, images=1) == 1  # boxes go back to the file's own pixels
    [(inputs, [sample])] = oracle.seen
    assert sample.img_shape == (128, 192)  # the student's pipeline has (64, 96)
    assert inputs.shape == (1, 3, 128, 192)
    flat = inputs[0].flatten(1)
    floor = torch.tensor([-1.0, -2, -3]) / torch.tensor([4.0, 5, 6])  # a pixel of 0, in the teacher's units
    assert torch.allclose(flat.amin(dim=1), floor, atol=0.3)
    assert (flat.amin(dim=1) >= floor - 1e-5).all()


def test_shuffled_weights_stop_the_run_before_its_first_step(run: Config, tmp_path: Path) -> None:
    run.custom_hooks.append(dict(type="TeacherCheckHook"))
    runner = Runner.from_cfg(run)
    with pytest.raises(ValueError, match=r"teacher reaches mAP 0\.0\d\d on 8 images.*teacher\.pth trained.*min_map"):
        runner.train()
    assert runner.iter == 0
    assert not list((tmp_path / "run").rglob("*.pth"))


def final_weights(cfg: Config) -> dict[str, torch.Tensor]:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def test_a_look_at_the_teacher_leaves_the_training_the_same_to_the_bit(run: Config, tmp_path: Path) -> None:
    run.train_cfg.max_epochs = 1
    plain = final_weights(run)
    run.work_dir = str(tmp_path / "looked")
    run.experiment_name += "-looked"
    run.custom_hooks.append(dict(type="TeacherCheckHook", min_map=0.0))
    looked = final_weights(run)
    assert all(torch.equal(looked[key], value) for key, value in plain.items())


def test_our_configs_look_at_the_teacher() -> None:
    hooks = Config.fromfile(ROOT / "configs/fgfi/bccd_r18_r18-half.py").custom_hooks
    assert "TeacherCheckHook" in [hook.type for hook in hooks]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(images=-1), "images=-1; a number of at least 0"),
        (dict(min_map=-0.1), "min_map=-0.1; a number of at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TeacherCheckHook(**wrong)


@pytest.mark.parametrize("kind", ["other classes", "bare RPN"])
def test_of_a_teacher_that_cannot_be_judged_the_log_says_so(run: Config, tmp_path: Path, kind: str) -> None:
    its = tiny.rpn(16, 24) if kind == "bare RPN" else tiny.faster_rcnn(16, 24, classes=5)
    teacher = dict(tiny.write_teacher(tmp_path, its), check_classes=False)
    model = MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher))
    said: list[str] = []
    runner = SimpleNamespace(model=model, cfg=run, logger=SimpleNamespace(info=said.append))
    TeacherCheckHook().before_train(runner)
    assert said == ["teacher check: left out, the teacher does not tell the student's classes apart"]


def test_the_tool_exits_with_an_error_below_min_map(run: Config, tmp_path: Path) -> None:
    run.dump(tmp_path / "run.py")
    low = tiny.tool("check_teacher", str(tmp_path / "run.py"), "--images", "2")
    assert low.returncode == 1
    assert "weights loaded" in low.stdout
    assert "check_teacher: the teacher reaches mAP 0.0" in low.stderr
    fine = tiny.tool("check_teacher", str(tmp_path / "run.py"), "--images", "2", "--min-map", "0")
    assert fine.returncode == 0
    assert "Traceback" not in low.stderr + fine.stderr


def test_the_tool_lists_weights_that_do_not_fit(run: Config, tmp_path: Path) -> None:
    weights = torch.load(tmp_path / "teacher.pth")
    del weights["state_dict"]["backbone.conv1.weight"]
    torch.save(weights, tmp_path / "teacher.pth")
    run.dump(tmp_path / "run.py")
    broken = tiny.tool("check_teacher", str(tmp_path / "run.py"))
    assert broken.returncode == 1
    assert "1 weights missing: backbone.conv1.weight" in broken.stderr
