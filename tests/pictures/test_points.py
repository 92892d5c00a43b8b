"""Students that judge points: pictures with a point mask, and a page about it."""

import json
import re
from pathlib import Path

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner

import tiny
from det_distill.pictures.compare import compare_masks
from det_distill.pictures.contenders import prior_generator
from det_distill.scene import has_anchors

POINTS = dict(type="PointMask", reach=5)


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24))
    near = dict(tiny.imitation(), mask=POINTS, strides=[8, 16, 32, 64])
    model = tiny.distiller(tiny.single_stage("fcos"), teacher, terms=dict(near=near))
    return tiny.run_config(tiny.write_dataset(tmp_path / "data"), tmp_path / "run", model)


def test_sheets_count_the_points_inside_boxes_and_the_page_has_their_reach(cfg: Config, tmp_path: Path):
    cfg.dump(tmp_path / "fcos.py")
    first, *_ = compare_masks(str(tmp_path / "fcos.py"), images=1, out=tmp_path / "shown")
    assert [row.title for row in first.rows] == [
        "this config's term 'near': PointMask, reach 5",
        "PointMask",
        "GtBoxMask",
        "FullMask",
    ]
    assert first.columns[0] == "12 x 8 cells, a point each"
    page = (tmp_path / "shown" / "index.html").read_text()
    found = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert (found["kind"], found["reach"]) == ("point", 5)
    assert found["masks"][:3] == ["GtBoxMask", "FullMask", "this config's term 'near': PointMask, reach 5"]


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


@pytest.mark.parametrize("name", ["yolox/yolox_s_8xb8-300e_coco", "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco"])
def test_where_a_config_names_no_strides_they_are_those_its_head_takes(name: str):
    model = get_config(f"mmdet::{name}.py").model
    model.bbox_head.pop("strides", None)
    found, built = prior_generator(model), MODELS.build(model.bbox_head).prior_generator
    assert not has_anchors(found)
    assert found.strides == built.strides


def test_where_a_config_names_no_anchors_they_are_those_its_head_takes():
    model = get_config("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py").model
    del model.bbox_head["anchor_generator"]
    found, built = prior_generator(model), MODELS.build(model.bbox_head).prior_generator
    assert [level.tolist() for level in found.base_anchors] == [level.tolist() for level in built.base_anchors]


def test_a_head_that_is_told_two_kinds_of_anchors_has_none_to_show():
    model = get_config("mmdet::guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py").model
    with pytest.raises(ValueError, match=r"found none in RetinaNet"):
        prior_generator(model)
