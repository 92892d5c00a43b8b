"""Students that judge points: pictures with a point mask, and no page about anchors."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import tiny
from det_distill.pictures.compare import compare_masks

POINTS = dict(type="PointMask")


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24))
    near = dict(tiny.imitation(), mask=POINTS, strides=[8, 16, 32, 64])
    model = tiny.distiller(tiny.single_stage("fcos"), teacher, terms=dict(near=near))
    return tiny.run_config(tiny.write_dataset(tmp_path / "data"), tmp_path / "run", model)


def test_sheets_count_the_points_inside_boxes_and_there_is_no_page(cfg: Config, tmp_path: Path, capsys: Any):
    cfg.dump(tmp_path / "fcos.py")
    first, *_ = compare_masks(str(tmp_path / "fcos.py"), images=1, out=tmp_path / "shown")
    assert [row.title for row in first.rows] == [
        "this config's term 'near': PointMask",
        "PointMask",
        "GtBoxMask",
        "FullMask",
    ]
    assert first.columns[0] == "12 x 8 cells, a point each"
    assert "no page: the student judges points" in capsys.readouterr().out
    assert [path.suffix for path in (tmp_path / "shown").iterdir()] == [".png"]


def test_the_hook_shows_what_a_student_of_points_imitates(cfg: Config, tmp_path: Path):
    cfg.train_cfg.max_epochs = 1
    cfg.visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
    cfg.custom_hooks.append(dict(type="MaskVisualizationHook", interval=1, images=1))
    Runner.from_cfg(cfg).train()
    names = {path.name for path in (tmp_path / "run").rglob("*.png")}
    assert names == {
        "masks_0000_0_0.png",
        "features_near_0000_0_0.png",
        "masks_0000_0_4.png",
        "features_near_0000_0_4.png",
    }
