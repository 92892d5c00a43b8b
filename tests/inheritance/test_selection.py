"""A student that begins as a part of its teacher, against a teacher whose other part is dead."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine import ConfigDict
from mmengine.config import Config
from mmengine.hooks import Hook

import strangers
import tiny

SELECTION = dict(type="WeightSelection")


def wide(**other: Any) -> Any:
    """A teacher twice as wide as `tiny.faster_rcnn` wherever that has a width."""
    model = tiny.faster_rcnn(16, 32, **other)
    model.roi_head.bbox_head.fc_out_channels = 64
    return model


def begun(model: Any) -> Any:
    torch.manual_seed(3)
    built = MODELS.build(model)
    built.init_weights()
    return built


@pytest.fixture
def teacher(tmp_path: Path) -> dict[str, str]:
    return tiny.write_teacher(tmp_path, wide())


def outputs(detector: Any) -> list[torch.Tensor]:
    """Maps, scores and boxes of every stage, in eval mode."""
    torch.manual_seed(0)
    images, boxes = torch.randn(1, 3, 64, 96), torch.tensor([[0.0, 3, 5, 40, 60], [0, 20, 0, 90, 50]])
    with torch.no_grad():
        maps = detector.eval().extract_feat(images)
        judged = detector.roi_head._bbox_forward(maps, boxes)
        return [*maps, *(one for part in detector.rpn_head(maps) for one in part), *judged.values()]


def test_a_student_computes_what_its_teacher_does_whose_further_channels_are_dead(teacher: dict[str, str]):
    """Dead: whatever no student has room for is 0, so the teacher as a whole computes what its first part does."""
    torch.save(tiny.dead_beyond_the_student(teacher["checkpoint"]), teacher["checkpoint"])
    built = begun(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION))
    ours, its = outputs(built.student), outputs(built.teacher.detector)
    assert len(ours) == len(its) == 18
    for one, other in zip(ours, its, strict=True):
        torch.testing.assert_close(one, other[:, : one.shape[1]], rtol=1e-4, atol=1e-5)
        assert one.std() > 1e-4


def test_what_the_teacher_has_no_room_for_begins_as_in_stock_training(tmp_path: Path):
    model = tiny.faster_rcnn(16, 8)  # a wider backbone, a narrower pyramid and head
    model.roi_head.bbox_head.fc_out_channels = 16
    teacher = tiny.write_teacher(tmp_path, model)
    stock = begun(tiny.faster_rcnn()).state_dict()
    selection = dict(SELECTION, skip=["backbone.layer1.0", "backbone.bn1"])
    built = begun(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=selection))
    inherited = {name for name, value in built.state_dict().items() if not torch.equal(value, stock[name])}
    expected = {
        name
        for name in stock
        if name.startswith("backbone") and not name.startswith(("backbone.layer1.0.", "backbone.bn1."))
    }
    assert inherited == {name for name in expected if not name.endswith("num_batches_tracked")}
    source = torch.load(teacher["checkpoint"])["state_dict"]
    assert torch.equal(built.state_dict()["backbone.conv1.weight"], source["backbone.conv1.weight"][:8])


def test_the_random_stream_is_that_of_stock_training(teacher: dict[str, str]):
    begun(tiny.faster_rcnn())
    expected = torch.rand(3)
    begun(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION))
    assert torch.equal(torch.rand(3), expected)


def test_a_layer_of_another_kernel_keeps_weight_and_bias(teacher: dict[str, str]):
    model = tiny.faster_rcnn()
    model.roi_head.bbox_head.roi_feat_size = 5
    model.roi_head.bbox_roi_extractor.roi_layer.output_size = 5
    model.backbone.update(deep_stem=True, stem_channels=8)  # whose layers have other names
    stock = begun(model).state_dict()
    built = begun(tiny.distiller(model, teacher, init_cfg=SELECTION)).state_dict()
    assert all(torch.equal(stock[name], built[name]) for name in stock if name.startswith("backbone.stem"))
    assert not torch.equal(stock["backbone.layer1.0.conv1.weight"], built["backbone.layer1.0.conv1.weight"])


def test_of_several_teachers_one_is_named(tmp_path: Path, teacher: dict[str, str]):
    (tmp_path / "b").mkdir()
    other = tiny.write_teacher(tmp_path / "b", wide(), seed=2)
    terms = dict(near=tiny.imitation(teacher="a"))
    model = tiny.distiller(tiny.faster_rcnn(), dict(a=teacher, b=other), terms=terms)
    built = begun(model | dict(init_cfg=dict(SELECTION, teacher="b")))
    expected = torch.load(other["checkpoint"])["state_dict"]["neck.fpn_convs.0.conv.weight"]
    assert torch.equal(built.student.neck.fpn_convs[0].conv.weight, expected[:16, :16])


class First(Hook):
    """Keeps the weights of a run's first step."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == 0:
            self.weight = runner.model.student.backbone.conv1.weight.detach().clone()


def test_a_runner_begins_with_it(teacher: dict[str, str], tmp_path: Path):
    model = tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION)
    first = First()
    cfg = tiny.run_config(tiny.write_dataset(tmp_path / "data"), tmp_path / "run", model)
    tiny.trained(cfg, first, stop=tiny.Interrupt(1))
    expected = torch.load(teacher["checkpoint"])["state_dict"]["backbone.conv1.weight"]
    assert torch.equal(first.weight, expected[:8])


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (dict(type="Pretrained", checkpoint="a.pth"), r"type='Pretrained'.*'WeightSelection', others belong into the"),
        ("WeightSelection", r"a dict is expected"),
        (dict(SELECTION, skp=[]), r"WeightSelection\.skp is unknown, did you mean 'skip'"),
        (dict(SELECTION, teacher="b"), r"teacher='b' is none of 'teacher'"),
        (dict(SELECTION, skip="neck"), r"skip='neck'; a list of dotted paths"),
        (dict(SELECTION, skip=["nck"]), r"skip names 'nck', no module of the student, did you mean 'neck'"),
    ],
)
def test_a_wrong_selection_is_named(teacher: dict[str, str], selection: Any, words: str):
    with pytest.raises(ValueError, match=rf"^Distiller\.init_cfg: .*{words}"):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=selection))


def test_a_teacher_of_other_classes_wants_its_heads_skipped(tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, wide(classes=5)) | dict(check_classes=False)
    model = tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION)
    with pytest.raises(ValueError, match=r"the teacher has 5 classes, the student 3: .*fc_cls.*fc_reg"):
        MODELS.build(model)
    heads = ["roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg"]
    built = begun(model | dict(init_cfg=dict(SELECTION, skip=heads)))
    stock = begun(tiny.faster_rcnn())
    assert torch.equal(built.student.roi_head.bbox_head.fc_cls.weight, stock.roi_head.bbox_head.fc_cls.weight)


def test_a_teacher_of_other_anchors_wants_its_heads_skipped(tmp_path: Path):
    model = wide()
    model.rpn_head.anchor_generator.scales = [4, 8]
    teacher = tiny.write_teacher(tmp_path, model)
    with pytest.raises(
        ValueError, match=r"the teacher has \[6, 6, 6, 6, 6\] anchors a cell, the student \[3, 3, 3, 3, 3\]"
    ):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION))


def test_a_teacher_of_other_bins_wants_its_head_skipped(tmp_path: Path):
    model = tiny.single_stage("gfl", 12, 24)
    model.bbox_head.reg_max = 20
    teacher = tiny.write_teacher(tmp_path, model)
    with pytest.raises(ValueError, match="the teacher has 20 bins of a distance, the student 16: name the layers"):
        MODELS.build(tiny.distiller(tiny.single_stage("gfl"), teacher, init_cfg=SELECTION))


def test_a_teacher_that_is_narrower_everywhere_is_refused(tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(4, 8))
    model = tiny.faster_rcnn(8, 16)
    model.roi_head.bbox_head.fc_out_channels = 64
    with pytest.raises(ValueError, match="no layer of the student has a teacher's of its name that is as wide"):
        MODELS.build(tiny.distiller(model, teacher, init_cfg=SELECTION))


def test_the_tool_tells_how_much_is_inherited(teacher: dict[str, str], tmp_path: Path):
    model = tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION)
    Config(dict(model=model)).dump(tmp_path / "distil.py")
    done = tiny.tool("inspect_config", tmp_path / "distil.py", "--shape", 64, 96)
    assert "begins with the first channels of 55 of 55 layers of the teacher" in done.stdout


def test_the_recipe_is_the_combination_with_another_beginning_and_that_alone_is_to_be_had_too():
    combined, recipe, alone = (
        tiny.shipped(name).model.to_dict()
        for name in ("combined/bccd_r18_r18-half", "recipe/bccd_r18_r18-half", "recipe/bccd_r18_r18-half_selection")
    )
    assert recipe == combined | dict(init_cfg=SELECTION)
    assert alone == recipe | dict(terms={}, task_weights=None)
    identity = tiny.shipped("recipe/bccd_r18_r18-half_identity").model.to_dict()
    assert identity["terms"]["imitation"]["adapter"].pop("identity")
    assert identity == recipe
    built = tiny.shipped_distiller("recipe/bccd_r18_r18-half")
    assert built.inherit.told(built.student, built.teachers).startswith("begins with the first channels of 55 of 55")
    assert not tiny.shipped_distiller("recipe/bccd_r18_r18-half_selection").terms


def swin(width: int) -> ConfigDict:
    """RetinaNet on the smallest Swin at so many channels, 8 a head."""
    model = tiny.single_stage("retinanet")
    heads = [width * side // 8 for side in (1, 2, 4, 8)]
    model.backbone = dict(
        type="SwinTransformer", embed_dims=width, depths=(1, 1, 1, 1), num_heads=heads, window_size=3, mlp_ratio=2
    )
    model.neck.in_channels = [width, 2 * width, 4 * width, 8 * width]
    return model


def test_of_an_attention_it_has_the_first_heads_queries_keys_and_values(tmp_path: Path):
    cases = {"backbone.stages.1.blocks.0.attn.w_msa.qkv.": (swin(16), swin(8), 16, 32)}
    detr, narrow = strangers.deformable_detr(channels=32), strangers.deformable_detr(channels=16)
    cases["decoder.layers.0.self_attn.attn.in_proj_"] = (detr, narrow, 16, 32)
    for number, (weight, (wide, small, own, its)) in enumerate(cases.items()):
        (tmp_path / str(number)).mkdir()
        teacher = tiny.write_teacher(tmp_path / str(number), wide)
        model = MODELS.build(tiny.distiller(small, teacher, terms={}, init_cfg=dict(type="WeightSelection")))
        model.init_weights()
        saved, found = torch.load(teacher["checkpoint"])["state_dict"], model.student.state_dict()
        for part in range(3):
            mine, theirs = slice(part * own, part * own + own), slice(part * its, part * its + own)
            assert torch.equal(found[f"{weight}weight"][mine], saved[f"{weight}weight"][theirs, :own])
            assert torch.equal(found[f"{weight}bias"][mine], saved[f"{weight}bias"][theirs])
        told = model.inherit.origins(model.student, model.teachers)
        if weight[:-1] in told:  # a layer of its own, which may be fitted
            assert torch.equal(found[f"{weight}bias"], saved[f"{weight}bias"][told[weight[:-1]].outputs])
