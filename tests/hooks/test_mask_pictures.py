"""Pictures of masks and features during training: what is drawn, when, and that training stays the same to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

import strangers
import tiny
from det_distill.hooks import feature_picture as module
from det_distill.hooks.feature_picture import feature_picture
from det_distill.hooks.mask_pictures import MaskVisualizationHook
from det_distill.pictures import draw
from det_distill.stills import picture, still_dataset


@pytest.fixture
def run(tmp_path: Path) -> Config:
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24))
    data = tiny.write_dataset(tmp_path / "data")
    cfg = tiny.run_config(data, tmp_path / "run", tiny.distiller(tiny.faster_rcnn(), teacher))
    cfg.train_cfg.max_epochs = 2
    return cfg


def final_weights(cfg: Config) -> dict[str, torch.Tensor]:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def test_they_come_before_the_first_step_and_every_interval_and_change_no_weight(
    run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = final_weights(run)
    shown: list[tuple[str, int]] = []
    add = Visualizer.add_image
    monkeypatch.setattr(
        Visualizer,
        "add_image",
        lambda self, name, image, step=0: (shown.append((name, step)), add(self, name, image, step)),
    )
    run.work_dir = str(tmp_path / "shown")
    run.experiment_name += "-shown"
    run.visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
    run.custom_hooks.append(dict(type="MaskVisualizationHook", interval=2, images=1))
    watched = final_weights(run)

    # Eight images in batches of two: four steps an epoch. The hook counts finished steps from 0.
    assert shown == [(f"{kind}_0000_0", step) for step in (0, 8) for kind in ("masks", "features_imitation")]
    assert all(torch.equal(watched[key], value) for key, value in plain.items())
    files = {path.name for path in (tmp_path / "shown").rglob("*.png")}
    assert files == {f"{name}_{step}.png" for name, step in shown}


def built(folder: Path, student: Any = None, **term: Any) -> Any:
    teacher = tiny.write_teacher(folder, tiny.faster_rcnn(16, 24))
    terms = dict(imitation=tiny.imitation(**term))
    return MODELS.build(tiny.distiller(student or tiny.faster_rcnn(), teacher, terms=terms)).eval()


def one(cfg: Config) -> tuple[Any, Any]:
    return picture(still_dataset(cfg, "train")[0])


def test_heat_is_the_norm_of_adapted_student_teacher_and_gap_cell_by_cell(
    run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (image, sample) = built(tmp_path), one(run)
    seen: list[np.ndarray] = []
    heat = draw.heat
    monkeypatch.setattr(module.draw, "heat", lambda *args: (seen.append(args[1]), heat(*args))[1])
    feature_picture(model, "imitation", image, sample)

    pixels = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    inputs = model.data_preprocessor(dict(inputs=[pixels], data_samples=[sample]), False)["inputs"]
    with torch.no_grad():
        own, its = model.student.neck(model.student.backbone(inputs)), model.teacher.detector.extract_feat(inputs)
        for level, (s, t) in enumerate(zip(own, its, strict=True)):
            s = model.terms["imitation"].adapters[level](s)
            three = [s, t, s - t]
            rows, columns = s.shape[2:]
            most = max(
                float(sum(m[0, c, y, x] ** 2 for c in range(24)) ** 0.5)
                for m in three[:2]
                for y in range(rows)
                for x in range(columns)
            )
            for maps, values in zip(three, seen[3 * level : 3 * level + 3], strict=True):
                assert values.shape == (rows, columns)
                y, x = rows // 2, columns // 3
                norm = float(sum(maps[0, c, y, x] ** 2 for c in range(24)) ** 0.5)
                assert values[y, x] == pytest.approx(norm / most, rel=1e-4)


def test_a_student_of_half_the_resolution_is_drawn_on_the_teacher_s_grid(run: Config, tmp_path: Path) -> None:
    run.model.student = dict(model=tiny.faster_rcnn(), scale=0.5)
    run.model.terms.imitation.strides = [4, 8, 16, 32]
    run.train_cfg.max_epochs = 1
    run.visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
    run.custom_hooks.append(dict(type="MaskVisualizationHook", images=1))
    final_weights(run)
    names = sorted(path.name for path in (tmp_path / "run").rglob("*.png"))
    assert names == [f"{kind}_0000_0_{step}.png" for kind in ("features_imitation", "masks") for step in (0, 4)]


def test_without_a_mask_to_show_the_run_stops_before_its_first_step(run: Config) -> None:
    run.model.terms = dict(soft=dict(type="WeightedSoftLabels", head="roi", weight=0.5))
    run.custom_hooks.append(dict(type="MaskVisualizationHook"))
    with pytest.raises(ValueError, match=r"no term is a FeatureImitation, so there is no mask to show"):
        final_weights(run)


@pytest.mark.parametrize("wrong", [dict(interval=0), dict(images=0)])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"=0; a number of at least 1"):
        MaskVisualizationHook(**wrong)


def test_a_student_without_anchors_or_points_has_no_levels_to_draw_on(tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, strangers.deformable_detr(16))
    term = tiny.imitation(mask=dict(type="GtBoxMask"))
    model = tiny.distiller(strangers.deformable_detr(), teacher, terms=dict(imitation=term))
    cfg = tiny.run_config(tiny.write_dataset(tmp_path / "data"), tmp_path / "run", model)
    hooks = [*cfg.custom_hooks, dict(type="MaskVisualizationHook")]
    cfg.merge_from_dict(dict(custom_hooks=hooks))
    with pytest.raises(ValueError, match="draws at the student's anchors or points, and a DeformableDETR has none"):
        tiny.trained(cfg)
