"""The teacher: loaded strictly or not at all, frozen for good, and no part of the model that learns."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import tiny
from det_distill.teachers.teacher import Teacher

Files = dict[str, str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(width=16, fpn=32))


@pytest.fixture
def distiller(files: Files) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(tiny.faster_rcnn(), files))


def spoilt(files: Files, folder: Path, change: Any) -> Files:
    """The same files with another checkpoint."""
    content = torch.load(files["checkpoint"])
    content = change(content) or content
    torch.save(content, folder / "spoilt.pth")
    return files | dict(checkpoint=str(folder / "spoilt.pth"))


def state_of(teacher: Teacher) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in teacher.detector.state_dict().items()}


def unchanged(teacher: Teacher, before: dict[str, Tensor]) -> bool:
    now = teacher.detector.state_dict()
    return now.keys() == before.keys() and all(value.equal(before[name]) for name, value in now.items())


def test_holds_the_weights_of_the_checkpoint_frozen_and_in_eval_mode(files: Files):
    teacher = Teacher.from_config(files)
    assert unchanged(teacher, torch.load(files["checkpoint"])["state_dict"])
    assert not any(module.training for module in teacher.detector.modules())
    assert not any(parameter.requires_grad for parameter in teacher.detector.parameters())


LIKES = {
    "bare weights": lambda c: c["state_dict"],
    "saved behind DDP": lambda c: {"state_dict": {f"module.{k}": v for k, v in c["state_dict"].items()}},
    "before torch 0.4.1": lambda c: {
        "state_dict": {k: v for k, v in c["state_dict"].items() if "num_batches_tracked" not in k}
    },
}


@pytest.mark.parametrize("like", LIKES.values(), ids=LIKES)
def test_other_common_forms_of_a_checkpoint_load(files: Files, tmp_path: Path, like: Any):
    teacher = Teacher.from_config(spoilt(files, tmp_path, like))
    assert unchanged(teacher, torch.load(files["checkpoint"])["state_dict"])


def test_weights_missing_left_over_and_of_another_shape_are_listed_in_one_error(files: Files, tmp_path: Path):
    def change(content: dict[str, Any]) -> None:
        state = content["state_dict"]
        del state["rpn_head.rpn_cls.weight"], state["neck.fpn_convs.0.conv.bias"]
        state["backbone.extra.weight"] = torch.zeros(1)
        state["backbone.conv1.weight"] = torch.zeros(3, 3, 7, 7)

    with pytest.raises(ValueError, match="does not fit the teacher's config") as error:
        Teacher.from_config(spoilt(files, tmp_path, change))
    for said in (
        "spoilt.pth",
        "2 weights missing: ",
        "rpn_head.rpn_cls.weight",
        "neck.fpn_convs.0.conv.bias",
        "1 weights left over: backbone.extra.weight",
        "1 of another shape: backbone.conv1.weight (3, 3, 7, 7) instead of (16, 3, 7, 7)",
    ):
        assert said in str(error.value)


def test_a_long_list_of_wrong_weights_is_cut_and_counted(files: Files, tmp_path: Path):
    wrong = spoilt(files, tmp_path, lambda c: {"state_dict": {f"x{i}": torch.zeros(1) for i in range(9)}})
    with pytest.raises(ValueError, match=r"9 weights left over: x0, x1, x2, x3, x4 and 4 more"):
        Teacher.from_config(wrong)


@pytest.mark.parametrize(
    "content",
    [{}, {"meta": {}}, {"state_dict": {}}, {"state_dict": [1]}, [1, 2], {3: torch.zeros(1)}, torch.zeros(2)],
    ids=["nothing", "meta", "no weights", "a list in place", "a list", "numbered", "a tensor"],
)
def test_a_checkpoint_without_weights_is_refused(files: Files, tmp_path: Path, content: Any):
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty.pth (holds no weights|does not fit)"):
        Teacher.from_config(files | dict(checkpoint=str(tmp_path / "empty.pth")))


def test_a_missing_file_is_named_with_its_nearest(files: Files):
    wanted = files["checkpoint"].replace("teacher.pth", "techer.pth")
    hint = rf"techer.pth not found; did you mean .*teacher.pth.*tools/train.py {files['config']}` makes such weights"
    with pytest.raises(FileNotFoundError, match=hint):
        Teacher.from_config(files | dict(checkpoint=wanted))
    with pytest.raises(FileNotFoundError, match=r"teacher.config=.*techer.py' not found; did you mean .*teacher.py"):
        Teacher.from_config(files | dict(config=files["config"].replace("teacher.py", "techer.py")))


@pytest.mark.parametrize("keep", [0, 10, 4000, 5000, -100])
def test_a_truncated_file_is_called_so(files: Files, tmp_path: Path, keep: int):
    broken = tmp_path / "broken.pth"
    broken.write_bytes(Path(files["checkpoint"]).read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"broken.pth \(\d+ bytes\) is truncated or no torch checkpoint"):
        Teacher.from_config(files | dict(checkpoint=str(broken)))


def test_a_text_file_is_no_checkpoint(files: Files, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("Trained on Monday; AP50 0.89.\n" * 20)
    with pytest.raises(ValueError, match=r"notes.txt .* no torch checkpoint"):
        Teacher.from_config(files | dict(checkpoint=str(tmp_path / "notes.txt")))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(chekpoint="x.pth"), r"teacher.chekpoint is unknown, did you mean 'checkpoint'\?"),
        (dict(check_class=False), r"teacher.check_class is unknown, did you mean 'check_classes'\?"),
        (dict(zzz=1), r"teacher.zzz is unknown; known: config, checkpoint, check_classes"),
        (dict(checkpoint=None), "teacher.checkpoint must be a path, found None"),
        (dict(config=dict(type="FasterRCNN")), "teacher.config must be a path, found {"),
    ],
    ids=str,
)
def test_a_wrong_key_is_named_with_the_nearest(files: Files, wrong: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        Teacher.from_config(files | wrong)


@pytest.mark.parametrize("key", ["config", "checkpoint"])
def test_a_key_left_out_is_named(files: Files, key: str):
    with pytest.raises(ValueError, match=f"teacher.{key} must be a path"):
        Teacher.from_config({k: v for k, v in files.items() if k != key})


def test_a_config_without_a_model_is_named(files: Files, tmp_path: Path):
    (tmp_path / "data.py").write_text("train_dataloader = dict(batch_size=2)\n")
    with pytest.raises(ValueError, match=r"teacher.config=.*data.py' describes no model"):
        Teacher.from_config(files | dict(config=str(tmp_path / "data.py")))


def test_a_stock_config_is_found_by_its_name(files: Files):
    with pytest.raises(ValueError, match="does not fit the teacher's config"):  # found and built, other weights
        Teacher.from_config(files | dict(config="mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coc.py", "did you mean .*faster-rcnn_r50_fpn_1x_coco.py"),
        ("mmdet::nowhere/x.py", "the folder .*nowhere does not exist"),
        ("mmdet::faster-rcnn_r50_fpn_1x_coco.py", "is no stock config"),
        ("mmnothing::faster_rcnn/x.py", "no package 'mmnothing' is installed"),
    ],
)
def test_a_wrong_stock_name_gives_one_clear_error(files: Files, name: str, said: str):
    with pytest.raises(FileNotFoundError, match=f"teacher.config='{name}' is no stock config; .*") as error:
        Teacher.from_config(files | dict(config=name))
    assert "\n" not in str(error.value)
    error.match(said)


def test_a_teacher_of_other_classes_is_refused_unless_told(tmp_path: Path):
    files = tiny.write_teacher(tmp_path, tiny.faster_rcnn(classes=5))
    with pytest.raises(ValueError, match=r"knows 5 classes, the student 3.*check_classes=False"):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), files))
    model = MODELS.build(tiny.distiller(tiny.faster_rcnn(), files | dict(check_classes=False)))
    assert tiny.losses(model, tiny.batch())["loss_imitation"].isfinite()


def test_is_no_part_of_the_model_that_learns(distiller: nn.Module):
    mine = {id(module) for module in distiller.teacher.detector.modules()}
    assert not mine & {id(module) for module in distiller.modules()}
    weights = {id(value) for value in distiller.teacher.detector.parameters()}
    assert not weights & {id(value) for value in distiller.parameters()}
    plain = MODELS.build(tiny.faster_rcnn())
    assert distiller.state_dict().keys() == plain.state_dict().keys()


def test_stays_in_eval_mode_and_learns_nothing_in_a_training_step(distiller: nn.Module):
    before = state_of(distiller.teacher)  # BN statistics among them
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    distiller.train()
    for step in range(2):
        loss, _ = distiller.parse_losses(tiny.losses(distiller, tiny.batch(seed=step)))
        loss.backward()
        optimizer.step()
        assert not any(module.training for module in distiller.teacher.detector.modules())
    assert unchanged(distiller.teacher, before)
    assert all(value.grad is None for value in distiller.teacher.detector.parameters())


def test_even_a_teacher_put_in_training_mode_by_hand_watches_in_eval_mode(distiller: nn.Module):
    before = state_of(distiller.teacher)
    distiller.teacher.detector.train()
    tiny.losses(distiller, tiny.batch())
    assert not any(module.training for module in distiller.teacher.detector.modules())
    assert unchanged(distiller.teacher, before)


@pytest.mark.filterwarnings("ignore:init_weights of")
def test_initialising_weights_spares_the_teacher(distiller: nn.Module):
    before = state_of(distiller.teacher)
    distiller.init_weights()
    distiller.teacher.detector.init_weights()
    assert unchanged(distiller.teacher, before)


def test_copies_of_the_model_share_one_teacher(distiller: nn.Module):
    assert deepcopy(distiller).teacher is distiller.teacher


@pytest.mark.parametrize(("cast", "dtype"), [("half", torch.float16), ("double", torch.float64)])
def test_follows_the_dtype_of_the_model(distiller: nn.Module, cast: str, dtype: torch.dtype):
    getattr(distiller, cast)()
    assert {value.dtype for value in distiller.teacher.detector.parameters()} == {dtype}
    assert not any(value.requires_grad for value in distiller.teacher.detector.parameters())
    inputs = torch.zeros(1, 3, 64, 64, dtype=dtype)
    samples = tiny.batch(1, size=(64, 64))["data_samples"]
    assert distiller.teacher.watch(inputs, samples, ["neck"], None)["neck"][0].dtype == dtype


ROI_NAMES = ["roi.features", "roi.embedding", "roi.logits", "roi.deltas"]


@pytest.mark.parametrize("divisor", [1, 32], ids=["teacher pads more", "both pad alike"])
@pytest.mark.parametrize("count", [2, 7], ids=["as many boxes as images", "more boxes"])
def test_roi_outputs_belong_to_the_given_boxes(files: Files, divisor: int, count: int):
    student = tiny.faster_rcnn(mean=[0.0] * 3, std=[255.0] * 3, pad_size_divisor=divisor, pad_value=9)
    distiller = MODELS.build(tiny.distiller(student, files))
    raw = tiny.batch(size=(70, 90))
    data = distiller.data_preprocessor(raw)
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 40
    rois = torch.cat((torch.arange(count)[:, None] % 2, corner, corner + 30), dim=1)
    shown = distiller.teacher.watch(data["inputs"], data["data_samples"], [*ROI_NAMES, "neck"], rois)

    det = distiller.teacher.detector
    with torch.no_grad():
        maps = det.extract_feat(det.data_preprocessor(raw)["inputs"])
        box = det.roi_head.bbox_head
        for index, roi in enumerate(rois):  # the teacher alone, one box at a time
            feature = det.roi_head.bbox_roi_extractor(maps[:4], roi[None])
            logits, deltas = box(feature)
            for name, value in zip(ROI_NAMES, (feature, None, logits, deltas), strict=True):
                if value is not None:
                    torch.testing.assert_close(shown[name][index], value[0], rtol=1e-3, atol=1e-4)
    assert tuple(shown["roi.embedding"].shape) == (count, 32)
    with torch.no_grad():
        own = distiller.student.extract_feat(data["inputs"])
    assert [m.shape[2:] for m in shown["neck"]] == [m.shape[2:] for m in own]


def test_watching_leaves_no_gradient_and_no_hook(distiller: nn.Module):
    data = distiller.data_preprocessor(tiny.batch())
    shown = distiller.teacher.watch(data["inputs"].requires_grad_(), data["data_samples"], ["neck"], None)
    assert not any(one.requires_grad for one in shown["neck"])
    assert not any(module._forward_hooks for module in distiller.teacher.detector.modules())
