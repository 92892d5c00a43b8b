"""A student fitted to its teacher, against a teacher that the student can be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

import tiny
from det_distill.inheritance.places import Origin
from det_distill.inheritance.reconstruction import Reconstruction, look_of, reconstruct

NETS = {
    "fpn": tiny.faster_rcnn,
    "c4": tiny.c4,
    "rfcn": tiny.rfcn,
    "rpn": tiny.rpn,
    "retinanet": lambda: tiny.single_stage("retinanet"),
    "fcos": lambda: tiny.single_stage("fcos"),
}
SELECTION = dict(type="WeightSelection", reconstruct=dict(images=4, rows=500))


def pair(tmp_path: Path, model: Any) -> Any:
    """A teacher, and a student of the same width that begins with its weights."""
    teacher = tiny.write_teacher(tmp_path, model)
    saved = torch.load(teacher["checkpoint"])
    for value in saved["state_dict"].values():
        if value.dim() > 1:
            nn.init.kaiming_normal_(value)  # so that what goes in comes out
    torch.save(saved, teacher["checkpoint"])
    built = MODELS.build(tiny.distiller(model, teacher, init_cfg=dict(type="WeightSelection"), terms={}))
    built.init_weights()
    return built


def looks_and_origins(built: Any, count: int = 3) -> tuple[list[Any], dict[str, Origin]]:
    origins = built.inherit.origins(built.student, built.teachers)
    rois = any(built.view.stage(path) == "roi" for path in origins)
    batches = [built.data_preprocessor(tiny.batch(2, seed=seed), training=True) for seed in range(count)]
    return [look_of(built.teacher, one["inputs"], one["data_samples"], rois) for one in batches], origins


def shown(view: Any, look: Any, paths: list[str]) -> dict[str, torch.Tensor]:
    """What every layer gives of an image nobody fitted, all calls in a row."""
    with torch.no_grad():
        sight = view.run(look.inputs, paths, look.rois)
    return {path: torch.cat([one.flatten() for one in sight[path]]) for path in paths}


def plain(built: Any) -> dict[str, Any]:
    return {
        path: one for path, one in built.student.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)
    }  # none here has groups


@pytest.mark.parametrize("kind", NETS)
def test_a_student_that_can_be_its_teacher_becomes_it_whatever_its_layers_held(tmp_path: Path, kind: str):
    """Its norms are the teacher's, its convolutions and linear layers noise: least squares tell the teacher's."""
    built = pair(tmp_path, NETS[kind]())
    torch.manual_seed(5)
    for one in plain(built).values():
        for value in one.parameters():
            nn.init.normal_(value, std=0.1)
    looks, origins = looks_and_origins(built, 4)
    *looks, unseen = looks
    done = reconstruct(Reconstruction(rows=10**6, ridge=1e-9), built.view, built.teacher, origins, looks)
    assert set(done) == {*plain(built)}
    assert min(before for before, _ in done.values()) > 0.3
    assert max(after for _, after in done.values()) < 5e-3
    built.student.eval()
    own, its = (shown(view, unseen, [*done]) for view in (built.view, built.teacher.view))
    for path, value in own.items():
        error = (value - its[path]).square().mean() / its[path].var()
        assert error < (0.05 if "shared_fcs" in path else 1e-3), path  # of 784 inputs, few of which were seen


def test_each_layer_gives_more_of_what_it_should(tmp_path: Path):
    """Of a teacher twice as wide, and as by a naive fit of the first layer."""
    wide = tiny.faster_rcnn(16, 32)
    wide.roi_head.bbox_head.fc_out_channels = 64
    model = tiny.distiller(tiny.faster_rcnn(), tiny.write_teacher(tmp_path, wide), init_cfg=SELECTION)
    built = MODELS.build(model)
    built.init_weights()
    looks, origins = looks_and_origins(built)
    stem = built.student.backbone.conv1
    start = stem.weight.detach().clone()
    done = reconstruct(Reconstruction(rows=10**6, ridge=0.5), built.view, built.teacher, origins, looks)
    assert list(done)[:2] == ["backbone.conv1", "backbone.layer1.0.conv1"]
    assert all(after <= before + 1e-9 for before, after in done.values())
    assert sum(after for _, after in done.values()) < 0.8 * sum(before for before, _ in done.values())
    # The stem sees what the teacher's sees, and has its weights: there is nothing to fit.
    assert done["backbone.conv1"][0] < 1e-9
    torch.testing.assert_close(stem.weight, start)
    assert all(not one.training for one in built.teacher.detector.modules())


def test_modes_norms_and_gradients_are_as_before(tmp_path: Path):
    built = pair(tmp_path, tiny.faster_rcnn())
    built.student.train()
    built.student.backbone.bn1.eval()
    modes = {name: one.training for name, one in built.student.named_modules()}
    others = {
        name: value.clone()
        for name, value in built.student.state_dict().items()
        if name.rsplit(".", 1)[0] not in plain(built)
    }
    looks, origins = looks_and_origins(built, 1)
    reconstruct(Reconstruction(rows=50), built.view, built.teacher, origins, looks)
    assert modes == {name: one.training for name, one in built.student.named_modules()}
    state = built.student.state_dict()
    assert len(others) > 50
    assert all(value.equal(state[name]) for name, value in others.items())
    assert all(one.requires_grad and one.grad is None for one in built.student.parameters())


def test_a_layer_of_other_cells_is_named(tmp_path: Path):
    built = pair(tmp_path, tiny.faster_rcnn())
    looks, origins = looks_and_origins(built, 1)
    built.student.neck.fpn_convs[0].conv.stride = (2, 2)
    words = r"^reconstruct: 'neck.fpn_convs.0.conv': it has cells \(2, 12, 16\) on the student, \(2, 24, 32\) on the"
    with pytest.raises(ValueError, match=words):
        reconstruct(Reconstruction(rows=50), built.view, built.teacher, origins, looks)


def test_a_layer_that_runs_more_often_on_the_teacher_is_named(tmp_path: Path):
    built = pair(tmp_path, tiny.faster_rcnn())
    looks, origins = looks_and_origins(built, 1)
    built.student.neck.num_outs = 4
    with pytest.raises(
        ValueError, match=r"'rpn_head.rpn_conv': it runs 4 times on the student, 5 times on the teacher"
    ):
        reconstruct(Reconstruction(rows=50), built.view, built.teacher, origins, looks)


# ---------------------------------------------------------------- in a run


class Begin(Hook):
    """Keeps the weights of a run's first step, and what was drawn before it."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if not hasattr(self, "weights"):
            self.weights = {name: value.clone() for name, value in runner.model.state_dict().items()}
            self.stream = torch.get_rng_state()


HOOKS = [dict(type=one) for one in ("AdapterStateHook", "ExactResumeHook", "ReconstructionHook")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("data"))


def run(tmp_path: Path, data: Path, init: Any, hooks: Any = HOOKS, stop: int | None = 1, **other: Any) -> Begin:
    (tmp_path / "teacher").mkdir(exist_ok=True)
    teacher = tiny.write_teacher(tmp_path / "teacher", tiny.faster_rcnn(16, 32))
    model = tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=init)
    begin = Begin()
    cfg = tiny.run_config(data, tmp_path / "run", model, custom_hooks=hooks, **other)
    tiny.trained(cfg, begin, stop=tiny.Interrupt(stop) if stop else None)
    return begin


def test_a_run_begins_fitted_and_draws_what_it_would_have(tmp_path: Path, data: Path):
    fitted = run(tmp_path, data, SELECTION)
    unfitted = run(tmp_path, data, dict(type="WeightSelection"))
    assert torch.equal(fitted.stream, unfitted.stream)
    changed = {name for name, value in fitted.weights.items() if not value.equal(unfitted.weights[name])}
    assert {"backbone.layer2.0.conv1.weight", "rpn_head.rpn_reg.bias"} <= changed
    assert not any("bn" in name for name in changed)


def test_a_run_that_goes_on_is_not_fitted_again(tmp_path: Path, data: Path):
    whole = dict(
        train_cfg=dict(max_epochs=2, val_begin=9),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=-1)),
    )
    run(tmp_path, data, SELECTION, stop=None, **whole)
    weights = torch.load(tmp_path / "run/epoch_2.pth", weights_only=False)["state_dict"]
    begin = run(tmp_path, data, SELECTION, stop=None, resume=True, load_from=str(tmp_path / "run/epoch_1.pth"), **whole)
    again = torch.load(tmp_path / "run/epoch_2.pth", weights_only=False)["state_dict"]
    saved = torch.load(tmp_path / "run/epoch_1.pth", weights_only=False)["state_dict"]
    assert begin.weights["rpn_head.rpn_conv.weight"].equal(saved["rpn_head.rpn_conv.weight"])
    assert all(value.equal(again[name]) for name, value in weights.items())


def test_weights_from_a_file_are_not_overwritten(tmp_path: Path, data: Path):
    run(tmp_path, data, None, stop=None, train_cfg=dict(max_epochs=1, val_begin=9))
    with pytest.raises(ValueError, match=r"load_from='.*epoch_1.pth' holds the student's weights, and init_cfg"):
        run(tmp_path, data, SELECTION, load_from=str(tmp_path / "run/epoch_1.pth"))


def test_without_the_hook_the_first_step_says_so(tmp_path: Path, data: Path):
    with pytest.raises(
        RuntimeError, match=r"nobody does init_cfg.reconstruct: add dict\(type='ReconstructionHook'\) to custom_hooks"
    ):
        run(tmp_path, data, SELECTION, hooks=HOOKS[:2])


def test_at_another_scale_no_layer_has_its_teacher_s_cells(tmp_path: Path, data: Path):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 32))
    student = dict(model=tiny.faster_rcnn(), scale=0.5)
    model = tiny.distiller(student, teacher, init_cfg=SELECTION, terms={})
    cfg = tiny.run_config(data, tmp_path / "run", model, custom_hooks=HOOKS)
    with pytest.raises(ValueError, match=r"the student sees its images at scale 0.5, so its layers' cells are not"):
        tiny.trained(cfg)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (96, r"reconstruct=96; a dict is expected"),
        (dict(image=8), r"reconstruct.image is unknown, did you mean 'images'"),
        (dict(images=0), r"reconstruct.images=0; a number of at least 1"),
        (dict(rows=0), r"reconstruct.rows=0; a number of at least 1"),
        (dict(ridge=-1), r"reconstruct.ridge=-1; a number of at least 0"),
    ],
)
def test_a_wrong_number_is_named(tmp_path: Path, how: Any, words: str):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 32))
    init = dict(type="WeightSelection", reconstruct=how)
    with pytest.raises(ValueError, match=rf"init_cfg: .*{words}"):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=init))


def test_the_tool_tells_on_how_many_images(tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 32))
    model = tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=SELECTION)
    Config(dict(model=model)).dump(tmp_path / "distil.py")
    done = tiny.tool("inspect_config", tmp_path / "distil.py", "--shape", 64, 96)
    assert "layers of the teacher, fitted to it on 4 images" in done.stdout
