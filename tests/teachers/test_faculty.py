"""Several teachers of one student: each sees its own input, is asked only what somebody wants to know, and is named."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor

import tiny
from det_distill.hooks.teacher_check import TeacherCheckHook
from det_distill.overview import _flops, overview
from det_distill.teachers.check import check_teacher, teacher_map
from det_distill.teachers.teacher import Teacher

A = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True, pad_size_divisor=32)
B = dict(mean=[10.0, 20.0, 30.0], std=[1.0, 2.0, 3.0], bgr_to_rgb=False, pad_size_divisor=64, pad_value=7)
MAP = [(4, 0), (1, 2)]  # b's classes 4 and 1 are the student's 0 and 2
SOFT = dict(type="SoftLabels", head="roi", weight=0.5)
Files = dict[str, Any]


@pytest.fixture(scope="module")
def faculty(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """a knows the student's three classes, b five others."""
    folders = [tmp_path_factory.mktemp(name) for name in "ab"]
    return dict(
        a=tiny.write_teacher(folders[0], tiny.faster_rcnn(12, 24, **A)),
        b=tiny.write_teacher(folders[1], tiny.faster_rcnn(16, 32, classes=5, **B), seed=2) | dict(class_map=MAP),
    )


def built(teachers: Any, student: Any = None, **terms: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(student or tiny.faster_rcnn(), teachers, terms=terms))


def recorded(teacher: Teacher) -> list[Tensor]:
    """What the backbone will be given."""
    seen: list[Tensor] = []
    teacher.detector.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    return seen


# ---------------------------------------------------------------- what each sees and is asked


def test_each_teacher_sees_the_image_as_its_own_preprocessor_makes_it(faculty: Files):
    student = tiny.faster_rcnn(mean=[5.0] * 3, std=[200.0] * 3, bgr_to_rgb=True, pad_size_divisor=1, pad_value=3)
    model = built(faculty, student, soft=SOFT)
    data = tiny.batch(size=(70, 90))
    data["inputs"][1] = data["inputs"][1][:, :60, :80]  # a smaller image beside it, padded
    data["data_samples"][1].set_metainfo(dict(img_shape=(60, 80)))
    seen = {name: recorded(teacher) for name, teacher in model.teachers.items()}
    losses = tiny.losses(model, data)
    assert losses["loss_soft"].isfinite()
    for name, size in (("a", (96, 96)), ("b", (128, 128))):
        plain = model.teachers[name].detector.data_preprocessor(dict(inputs=data["inputs"]))["inputs"]
        [batch] = seen[name]
        assert batch.shape == plain.shape == (2, 3, *size)
        torch.testing.assert_close(batch, plain, rtol=1e-4, atol=1e-3)


def test_a_teacher_nobody_asks_never_runs_and_a_named_one_is_asked_alone(faculty: Files):
    model = built(
        faculty,
        hint=tiny.imitation(teacher="a"),
        soft=SOFT | dict(teacher="a"),
        off=tiny.imitation(teacher="b", weight=0.0),
    )
    a, b = (recorded(model.teachers[name]) for name in "ab")
    losses = tiny.losses(model, tiny.batch())
    assert (len(a), len(b)) == (1, 0)
    assert losses["loss_off"] == 0
    assert losses["loss_soft"] > 0
    alone = built(dict(a=faculty["a"]), hint=tiny.imitation(), soft=SOFT)
    expected = tiny.losses(alone, tiny.batch())
    assert losses["loss_soft"].equal(expected["loss_soft"])


def test_terms_of_two_teachers_are_those_of_two_runs_with_one_each(faculty: Files):
    terms = {name: tiny.imitation(teacher=name) for name in "ab"}
    both = tiny.losses(built(faculty, **terms), tiny.batch())
    for name, other in ("ab", "ba"):
        one = built(faculty, **terms)  # the same adapters
        one.terms[other].weight = 0.0
        assert tiny.losses(one, tiny.batch())[f"loss_{name}"].equal(both[f"loss_{name}"])
    assert not both["loss_a"].equal(both["loss_b"])


# ---------------------------------------------------------------- ensembles


def taught(teachers: Any, student: Any, term: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of soft labels alone, and what goes back to the student."""
    model = built(teachers, deepcopy(student), soft=term)
    loss = tiny.losses(model, tiny.batch())["loss_soft"]
    loss.backward()
    return loss, {name: one.grad for name, one in model.student.named_parameters() if one.grad is not None}


STUDENTS = dict(roi=tiny.faster_rcnn, rpn=tiny.faster_rcnn, dense=lambda *sizes: tiny.single_stage("fcos", *sizes))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("head", STUDENTS)
def test_two_equal_teachers_teach_as_one_in_loss_and_gradient(tmp_path: Path, head: str, mean: str):
    make, term = STUDENTS[head], SOFT | dict(head=head, mean=mean)
    files = tiny.write_teacher(tmp_path, make(12, 24))
    loss, gradient = taught(files, make(), term)
    pair, both = taught(dict(one=files, other=files), make(), term)
    assert loss > 1e-4
    torch.testing.assert_close(pair, loss, rtol=1e-6, atol=1e-6)
    assert both.keys() == gradient.keys() != set()
    for name, one in both.items():
        torch.testing.assert_close(one, gradient[name], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- mistakes


def test_a_term_of_one_teacher_among_several_is_refused_with_their_names(faculty: Files):
    said = r"terms\.hint: FeatureImitation learns from one teacher; set teacher= to one of a, b"
    for named in ({}, dict(teacher=["a", "b"])):
        with pytest.raises(ValueError, match=said):
            built(faculty, hint=tiny.imitation(**named))


@pytest.mark.parametrize("named", ["large_", ["large", "large_"]], ids=str)
def test_an_unknown_teacher_is_named_with_the_nearest(faculty: Files, named: Any):
    teachers = dict(large=faculty["a"], small=faculty["a"])
    with pytest.raises(ValueError, match=r"terms\.soft: teacher='large_' .*'large', 'small', did you mean 'large'\?"):
        built(teachers, soft=SOFT | dict(teacher=named))


def test_a_term_of_no_teacher_is_refused(faculty: Files):
    with pytest.raises(ValueError, match=r"terms\.soft: teacher=\[\] names none; the teachers are a, b"):
        built(faculty, soft=SOFT | dict(teacher=[]))


def test_a_tap_that_one_of_them_lacks_is_refused(faculty: Files, tmp_path: Path):
    teachers = faculty | dict(c=tiny.write_teacher(tmp_path, tiny.rpn(12)))
    with pytest.raises(ValueError, match=r"terms\.soft: the teacher is a bare RPN .*no tap 'roi.logits'"):
        built(teachers, soft=SOFT)
    assert tiny.losses(built(teachers, soft=SOFT | dict(teacher=["a", "b"])), tiny.batch())["loss_soft"] > 0


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        (dict(chekpoint="x"), ValueError, r"^teacher\.b: teacher\.chekpoint is unknown, did you mean 'checkpoint'"),
        (dict(checkpoint=None), ValueError, r"^teacher\.b: teacher\.checkpoint must be a path, found None"),
        (dict(checkpoint="nowhere.pth"), FileNotFoundError, r"^teacher\.b: .*nowhere\.pth not found"),
        (dict(config="nowhere.py"), FileNotFoundError, r"^teacher\.b: teacher\.config='nowhere\.py' not found"),
        (dict(class_map=None), ValueError, r"^teacher\.b: the teacher knows 5 classes, the student 3.*class_map="),
        (dict(class_map=[(5, 0)]), ValueError, r"^teacher\.b: .*the teacher's classes \[5\].*of 0 to 4, is expected"),
        (dict(class_map=[(-1, 0)]), ValueError, r"^teacher\.b: .*the teacher's classes \[-1\]"),
        (dict(class_map=[(0, 3)]), ValueError, r"^teacher\.b: .*the student's classes \[3\].*of 0 to 2, is expected"),
        (dict(class_map=[(1, 0), (1, 2)]), ValueError, r"^teacher\.b: .*the teacher's classes \[1, 1\]; each at most"),
        (dict(class_map=[(1, 0), (2, 0)]), ValueError, r"^teacher\.b: .*the student's classes \[0, 0\]; each at most"),
        (dict(class_map=[]), ValueError, r"^teacher\.b: teacher\.class_map=\[\]; pairs of .* are expected"),
        (dict(class_map=[1, 2]), ValueError, r"^teacher\.b: teacher\.class_map=\[1, 2\]; pairs of"),
        (dict(class_map={1: 2}), ValueError, r"^teacher\.b: teacher\.class_map=\{1: 2\}; pairs of"),
    ],
    ids=str,
)
def test_what_is_wrong_with_one_is_named_by_its_name(
    faculty: Files, wrong: dict[str, Any], kind: type[Exception], said: str
):
    with pytest.raises(kind, match=said):
        built(dict(a=faculty["a"], b=faculty["b"] | wrong), soft=SOFT)


def test_weights_that_do_not_fit_one_are_named_by_its_name(faculty: Files):
    swapped = faculty["b"] | dict(checkpoint=faculty["a"]["checkpoint"])
    with pytest.raises(ValueError, match=r"^teacher\.b: checkpoint .* does not fit the teacher's config; \d+ of"):
        built(dict(a=faculty["a"], b=swapped), soft=SOFT)


def test_one_teacher_is_not_named_twice(faculty: Files):
    with pytest.raises(ValueError, match=r"^teacher\.class_map names the student's classes \[9\]"):
        built(faculty["b"] | dict(class_map=[(0, 9)]), soft=SOFT)


# ---------------------------------------------------------------- beside the model


def test_copies_share_all_teachers_and_all_follow_the_model(faculty: Files):
    model = built(faculty, soft=SOFT)
    copy = deepcopy(model)
    assert [copy.teachers[name] is model.teachers[name] for name in "ab"] == [True, True]
    model.double()
    for one in model.teachers.values():
        assert {value.dtype for value in one.detector.parameters()} == {torch.float64}
    model.to("meta")
    for one in model.teachers.values():
        assert {value.device.type for value in one.detector.parameters()} == {"meta"}


def test_no_teacher_is_in_what_learns_or_changes_in_a_step(faculty: Files):
    model = built(faculty, soft=SOFT, hint=tiny.imitation(teacher="b"))
    mine = {id(one) for teacher in model.teachers.values() for one in teacher.detector.modules()}
    assert not mine & {id(one) for one in model.modules()}
    before = {name: deepcopy(one.detector.state_dict()) for name, one in model.teachers.items()}
    model.parse_losses(tiny.losses(model, tiny.batch()))[0].backward()
    for name, one in model.teachers.items():
        assert all(value.equal(before[name][key]) for key, value in one.detector.state_dict().items())
        assert all(value.grad is None for value in one.detector.parameters())
        assert not any(module.training for module in one.detector.modules())


@pytest.fixture
def run(tmp_path: Path, faculty: Files) -> Config:
    """A run with both teachers over eight images."""
    data = tiny.write_dataset(tmp_path / "data")
    model = tiny.distiller(tiny.faster_rcnn(), faculty, terms=dict(soft=SOFT, hint=tiny.imitation(teacher="a")))
    return tiny.run_config(data, tmp_path / "run", model)


def test_a_checkpoint_holds_the_plain_student_and_neither_teacher(run: Config):
    run.merge_from_dict(dict(train_cfg=dict(max_epochs=1, val_begin=9)))
    Runner.from_cfg(run).train()
    checkpoint = torch.load(Path(run.work_dir) / "epoch_1.pth", weights_only=True)
    plain = MODELS.build(tiny.faster_rcnn())
    plain.load_state_dict(checkpoint["state_dict"], strict=True)
    found = numbers(checkpoint)
    for name in "ab":
        for weight in Teacher(**run.model.teacher[name]).detector.parameters():
            assert not any(weight.dtype == value.dtype and weight.equal(value) for value in found)


def numbers(content: Any) -> list[Tensor]:
    """Every tensor of a checkpoint."""
    if isinstance(content, Tensor):
        return [content]
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return [value for part in parts for value in numbers(part)]


# ---------------------------------------------------------------- does each know the data?


class Oracle:
    """Stands in for a detector's `predict`: the first `known` true boxes of an image, in the teacher's classes.

    Args:
        names: The teacher's class of each of the data set's; a class that is not there is called `other`.
        other: What the teacher calls them.
    """

    def __init__(self, cfg: Config, names: dict[int, int], other: int, lost: tuple[int, ...] = ()) -> None:
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.truth = {info["img_id"]: list(info["instances"]) for info in infos}
        self.names, self.other, self.lost, self.asked = names, other, lost, 0

    def __call__(self, inputs: Tensor, samples: list[Any], rescale: bool = True) -> list[Any]:
        self.asked += 1
        for sample in samples:
            own = [one for one in self.truth[sample.img_id] if one["bbox_label"] not in self.lost]
            boxes = torch.tensor([one["bbox"] for one in own]).reshape(-1, 4)
            labels = torch.tensor([self.names.get(one["bbox_label"], self.other) for one in own], dtype=torch.long)
            sample.pred_instances = InstanceData(bboxes=boxes, labels=labels, scores=torch.ones(len(own)))
        return samples


def knowing(cfg: Config, lost: tuple[int, ...] = ()) -> Teacher:
    """b, which calls the data set's class 0 4 and its class 2 1, and takes its class 1 for 0."""
    teacher = Teacher.from_config(cfg.model.teacher.b)
    teacher.detector.predict = Oracle(cfg, {0: 4, 2: 1}, other=0, lost=lost)
    return teacher


@pytest.mark.parametrize(
    ("lost", "expected"), [((), 1.0), ((1,), 1.0), ((2,), 0.5), ((0, 2), 0.0)], ids=lambda value: f"{value}"
)
def test_a_teacher_is_judged_over_the_classes_it_shares(run: Config, lost: tuple[int, ...], expected: float):
    """The mean over two classes, 1 where all of one are found and 0 where none; its class 1 is nobody's business."""
    truth = Oracle(run, {}, 0).truth.values()
    assert {one["bbox_label"] for own in truth for one in own} == {0, 1, 2}
    assert teacher_map(knowing(run, lost), run, images=8) == pytest.approx(expected)


def test_classes_mixed_up_are_found_out(run: Config):
    run.model.teacher.b.class_map = [(1, 0), (4, 2)]
    assert teacher_map(knowing(run), run, images=8) == 0


def test_the_check_before_training_looks_at_each_and_says_which(run: Config, monkeypatch: pytest.MonkeyPatch):
    model = MODELS.build(run.model)
    own = {k: k for k in range(3)}
    model.teachers["a"].detector.predict = Oracle(run, own, 0, lost=(1,))
    model.teachers["b"].detector.predict = Oracle(run, {0: 4, 2: 1}, 0)
    said: list[str] = []
    runner = SimpleNamespace(model=model, cfg=run, logger=SimpleNamespace(info=said.append))
    TeacherCheckHook().before_train(runner)
    assert said == ["teacher check, a: mAP 0.667 on 8 images", "teacher check, b: mAP 1.000 on 8 images"]
    with pytest.raises(ValueError, match=r"the teacher reaches mAP 0\.667 .*min_map=\.\.\.\) lowers the bar") as error:
        TeacherCheckHook(min_map=0.7).before_train(runner)
    assert model.teachers["a"].checkpoint in str(error.value)


def test_a_teacher_whose_classes_nobody_mapped_is_left_out_by_name(run: Config):
    run.model.teacher.b.pop("class_map")
    run.model.teacher.b.check_classes = False
    run.model.terms.soft.teacher = "a"
    model = MODELS.build(run.model)
    model.teachers["a"].detector.predict = Oracle(run, {k: k for k in range(3)}, 0)
    said: list[str] = []
    runner = SimpleNamespace(model=model, cfg=run, logger=SimpleNamespace(info=said.append))
    TeacherCheckHook().before_train(runner)
    left = "teacher check, b: left out, the teacher does not tell the student's classes apart"
    assert said == ["teacher check, a: mAP 1.000 on 8 images", left]


def test_the_tool_checks_each_and_returns_the_least(run: Config, tmp_path: Path, monkeypatch: Any, capsys: Any):
    run.dump(tmp_path / "run.py")
    oracles = {3: Oracle(run, {k: k for k in range(3)}, 0), 5: Oracle(run, {0: 4, 2: 1}, 0, lost=(2,))}
    plain = Teacher.__init__

    def replaced(self: Teacher, *args: Any, **more: Any) -> None:
        plain(self, *args, **more)
        self.detector.predict = oracles[self.view.classes]

    monkeypatch.setattr(Teacher, "__init__", replaced)
    assert check_teacher(str(tmp_path / "run.py"), images=8) == pytest.approx(0.5)
    said = [line for line in capsys.readouterr().out.splitlines() if "mAP" in line or "weights" in line]
    assert [line.split(" on ")[0] for line in said[1::2]] == ["mAP 1.000", "mAP 0.500"]
    assert [line.split(":")[0] for line in said[::2]] == [one.checkpoint for one in run.model.teacher.values()]
    with pytest.raises(ValueError, match=r"mAP 0\.500 on 8 images, at least 0\.6"):
        check_teacher(str(tmp_path / "run.py"), images=8, min_map=0.6)


# ---------------------------------------------------------------- the tables


def test_the_tables_show_both_teachers_and_what_they_cost(run: Config, tmp_path: Path):
    run.model.terms = dict(soft=SOFT | dict(teacher="a"), hint=tiny.imitation(teacher="b", tap="backbone"))
    run.dump(tmp_path / "run.py")
    text = overview(str(tmp_path / "run.py"), (96, 128))
    for name, parts in (("a", "backbone, neck, roi"), ("b", "backbone")):
        files = run.model.teacher[name]
        lines = f"teacher {name}: FasterRCNN of {files.config}\n         {files.checkpoint}, every weight loaded\n"
        assert f"{lines}         runs {parts}\n" in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert ["tap", "student", "a", "b"] in rows
    maps = ["  ".join(f"{width * k} @ {4 * k}" for k in (1, 2, 4, 8)) for width in (8, 16)]
    assert ["backbone", maps[0], "not asked for", maps[1]] in rows
    assert ["roi.logits", "4 a box", "4 a box", "not asked for"] in rows

    weights = sum(value.numel() for one in "ab" for value in Teacher(**run.model.teacher[one]).detector.parameters())
    [row] = [row for row in rows if row[0] == "teacher, forward"]
    assert row[1] == f"{weights / 1e6:.2f} M"


def test_two_teachers_cost_what_each_costs_alone(faculty: Files):
    soft, hint = SOFT | dict(teacher="a"), tiny.imitation(teacher="b", tap="backbone")
    (student, both, step), (_, first, _), (_, second, _) = (
        _flops(built(teachers, **terms), (96, 128))
        for teachers, terms in (
            (faculty, dict(soft=soft, hint=hint)),
            (dict(a=faculty["a"]), dict(soft=soft)),
            (dict(b=faculty["b"]), dict(hint=hint)),
        )
    )
    assert min(first, second) > 0
    assert both == first + second
    assert step > student + both
