"""The pictures show what the masks are: every count is counted again here, box by box, from the definitions."""

import json
import math
import runpy
import sys
from itertools import product
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from det_distill.pictures.compare import compare_masks

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "configs/_base_/models/faster-rcnn_r18-half_fpn64.py"
BCCD = ROOT / "configs/bccd/faster-rcnn_r18-half_fpn64.py"
STRIDES = (4, 8, 16, 32, 64)
WIDTH, HEIGHT = 75, 45  # of the files; the pipelines double them and the student pads 150x90 to 160x96
TRUTH = {  # file number: x, y, w, h in pixels of the file
    1: [(2, 3, 21, 14), (40, 20, 30, 22)],
    2: [(1, 0, 72, 44)],
    3: [(50, 5, 9, 9), (10, 30, 12, 6), (30, 10, 25, 25)],
}
CROWD = (60, 36, 15, 9)  # of file 1: an ignored area

DATA = """
_base_ = {base!r}
model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
still = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(150, 90), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
lots = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomChoiceResize", scales=[(75, 45), (300, 180)], keep_ratio=True),
    dict(type="RandomFlip", prob=1.0),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
images = dict(type="CocoDataset", data_root={root!r}, ann_file="truth.json", data_prefix=dict(img=""),
              metainfo=dict(classes=("nut", "bolt", "screw")))
train_dataloader = dict(dataset=dict(type="RepeatDataset", times=5, dataset=dict(pipeline=lots, **images)))
test_dataloader = dict(dataset=dict(pipeline=still, test_mode=True, **images))
"""
DISTILLER = """
_base_ = {base!r}
model = dict(
    _delete_=True,
    type="Distiller",
    student={student},
    teacher=dict(config="never/read.py", checkpoint="never_read.pth"),
    terms=dict(
        soft=dict(type="SoftLabels", weight=1.0),
        near=dict(type="FeatureImitation", tap="neck", mask=dict(type="AnchorIoUMask", psi=0.65,
                  level_assignment="every")),
    ),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images of noise with boxes of three classes, and a detector's config."""
    root = tmp_path_factory.mktemp("coco")
    noise = np.random.default_rng(7)
    annotations = [(number, index % 3, box, 0) for number, boxes in TRUTH.items() for index, box in enumerate(boxes)]
    annotations.append((1, 0, CROWD, 1))
    for number in TRUTH:
        mmcv.imwrite(noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), str(root / f"im{number}.png"))
    content = dict(
        images=[dict(id=n, file_name=f"im{n}.png", width=WIDTH, height=HEIGHT) for n in TRUTH],
        categories=[dict(id=i, name=name) for i, name in enumerate(("nut", "bolt", "screw"))],
        annotations=[
            dict(id=i, image_id=n, category_id=c, bbox=box, area=box[2] * box[3], iscrowd=crowd)
            for i, (n, c, box, crowd) in enumerate(annotations, 1)
        ],
    )
    (root / "truth.json").write_text(json.dumps(content))
    (root / "empty.json").write_text(json.dumps(dict(images=[], annotations=[], categories=content["categories"])))
    (root / "student.py").write_text(DATA.format(base=str(MODEL), root=str(root)))
    return root


def anchors_of(stride):
    """Of cell (0, 0): one scale of 8 strides, three ratios of height to width, centred at the origin."""
    for ratio in (0.5, 1.0, 2.0):
        w, h = 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)
        yield -w / 2, -h / 2, w / 2, h / 2


def iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def count(number, kind, psi=0.0, assignment="size", zoom=2):
    """[(cells on, cells) per level], from the file's boxes, doubled as the pipeline doubles them."""
    boxes = [tuple(zoom * v for v in (x, y, x + w, y + h)) for x, y, w, h in TRUTH[number]]
    found = []
    for index, s in enumerate(STRIDES):
        rows, columns = (math.ceil(math.ceil(zoom * side / 32) * 32 / s) for side in (HEIGHT, WIDTH))
        grid = product(range(rows), range(columns))
        pictured = {(i, j) for i, j in grid if i * s < zoom * HEIGHT and j * s < zoom * WIDTH}
        x, y, w, h = (zoom * v for v in (CROWD if number == 1 else (-9, -9, 0, 0)))
        inside = {(i, j) for i, j in pictured if not (x <= (j + 0.5) * s <= x + w and y <= (i + 0.5) * s <= y + h)}
        on = set(inside) if kind == "full" else set()
        for box in boxes:
            side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            if assignment == "size" and min(4, max(0, math.floor(math.log2(side / 56)))) != index:
                continue
            if kind == "box":
                on |= {
                    (i, j)
                    for i, j in inside
                    if j * s < box[2] and (j + 1) * s > box[0] and i * s < box[3] and (i + 1) * s > box[1]
                }
            if kind == "iou":
                best = {
                    (i, j): max(iou(box, (a + j * s, b + i * s, c + j * s, d + i * s)) for a, b, c, d in anchors_of(s))
                    for i, j in pictured
                }
                limit = psi * max(best.values()) * (1 + 1e-9)
                on |= {cell for cell in inside if best[cell] > limit}
        found.append((len(on), rows * columns))
    return found


def test_every_count_and_caption_is_the_definitions(folder, tmp_path):
    pages = compare_masks(str(folder / "student.py"), images=3, psi=(0.3, 0.8), out=tmp_path)
    for number, page in zip((1, 2, 3), pages, strict=True):
        assert [row.title for row in page.rows] == [
            "AnchorIoUMask, psi 0.3",
            "AnchorIoUMask, psi 0.8",
            "GtBoxMask",
            "FullMask",
        ]
        assert page.rows[0].counts == count(number, "iou", 0.3)
        assert page.rows[1].counts == count(number, "iou", 0.8)
        assert page.rows[2].counts == count(number, "box")
        assert page.rows[3].counts == count(number, "full")
        for row in page.rows:
            assert row.captions == [
                f"stride {s}: {on} of {cells} cells" for s, (on, cells) in zip(STRIDES, row.counts, strict=True)
            ]
    assert any(on for page in pages for on, _ in page.rows[0].counts[1:])  # one box is large enough for stride 8


def test_one_png_an_image_with_a_row_per_mask_and_a_column_per_level(folder, tmp_path):
    pages = compare_masks(str(folder / "student.py"), images=2, psi=(0.5,), out=tmp_path / "made" / "here")
    assert [page.path for page in pages] == [tmp_path / f"made/here/000{i}_im{i + 1}.png" for i in (0, 1)]
    for page in pages:
        assert len(page.columns) == len(STRIDES)
        assert len(page.rows) == 3
        height, width = mmcv.imread(str(page.path)).shape[:2]
        assert width > 5 * 240  # 150 pixels are shown at twice the size or more
        assert height > 3 * 2 * 90


LOAD, PACK = (
    [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)],
    [dict(type="PackDetInputs")],
)
RESIZE = dict(type="Resize", scale=(150, 90), keep_ratio=True)
FIXED = [*LOAD, RESIZE, dict(type="RandomFlip", prob=1.0), dict(type="PhotoMetricDistortion"), *PACK]


@pytest.mark.parametrize(
    "options", [{}, {"train_dataloader.dataset.dataset.pipeline": FIXED}], ids=["size drawn by lot", "size fixed"]
)
def test_the_photo_in_the_picture_is_the_file_resized_and_not_flipped(folder, tmp_path, monkeypatch, options):
    seen = []

    def spy(image, zoom):
        seen.append(image)
        return image.repeat(zoom, axis=0).repeat(zoom, axis=1)

    monkeypatch.setattr("det_distill.pictures.draw.resize", spy)
    compare_masks(str(folder / "student.py"), images=1, psi=(), out=tmp_path, cfg_options=options)
    expected = mmcv.imresize(mmcv.imread(str(folder / "im1.png")), (150, 90))[..., ::-1]  # RGB
    assert np.array_equal(seen[0][:90, :150], expected)
    assert seen[0].shape == (96, 160, 3)
    assert not seen[0][90:].any()
    assert not seen[0][:, 150:].any()


def test_an_image_whose_every_box_is_filtered_away_is_not_swapped_for_another(folder, tmp_path):
    pipeline = [*LOAD, RESIZE, dict(type="FilterAnnotations", min_gt_bbox_wh=(60, 60)), *PACK]
    options = {"train_dataloader.dataset.dataset.pipeline": pipeline}
    pages = compare_masks(str(folder / "student.py"), 3, (0.5,), tmp_path, cfg_options=options)
    assert [page.path.stem for page in pages] == ["0000_im1", "0001_im2", "0002_im3"]
    assert any(on for on, _ in pages[1].rows[0].counts)
    assert not any(on for row in pages[2].rows[:2] for on, _ in row.counts)


@pytest.mark.parametrize("student", ["{{_base_.model}}", "dict(config=%r)"], ids=["given", "named"])
def test_a_distillers_own_mask_comes_first(folder, tmp_path, student):
    config = tmp_path / "own.py"
    student = student % str(folder / "student.py") if "%" in student else student
    config.write_text(DISTILLER.format(base=str(folder / "student.py"), student=student))
    page, *_ = compare_masks(str(config), images=1, psi=(0.5,), out=tmp_path)
    own, *others = page.rows
    assert "'near'" in own.title
    assert "psi 0.65" in own.title
    assert "level_assignment every" in own.title
    assert own.counts == count(1, "iou", 0.65, "every")
    assert [row.title for row in others] == ["AnchorIoUMask, psi 0.5", "GtBoxMask", "FullMask"]


def test_the_page_says_why_the_teachers_maps_are_left_out(folder, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(DISTILLER.format(base=str(folder / "student.py"), student="{{_base_.model}}"))
    compare_masks(str(config), images=1, psi=(), out=tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "what a trained teacher shows: there is no teacher.checkpoint never_read.pth." in page
    assert "teacher: attention" not in page


def test_the_page_shows_the_detector_of_a_checkpoint(folder, tmp_path):
    torch.manual_seed(0)
    cfg = Config.fromfile(folder / "student.py")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, tmp_path / "student.pth")
    compare_masks(str(folder / "student.py"), 1, (), tmp_path, checkpoint=str(tmp_path / "student.pth"))
    page = (tmp_path / "index.html").read_text()
    assert "teacher: attention" in page
    assert "Left out" not in page


def test_a_student_of_lower_resolution_is_shown_at_its_own_test_size(folder, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(
        DISTILLER.format(base=str(folder / "student.py"), student="dict(model={{_base_.model}}, scale=0.5)")
    )
    whole = [*LOAD, dict(type="Resize", scale=(300, 180), keep_ratio=True), *PACK]
    options = {"train_dataloader.dataset.dataset.pipeline": whole}
    page, *_ = compare_masks(str(config), images=1, psi=(), out=tmp_path, cfg_options=options)
    assert page.rows[0].counts == count(1, "iou", 0.65, "every")


def test_levels_the_term_leaves_out_are_said_to_be_and_have_no_say(folder, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(DISTILLER.format(base=str(folder / "student.py"), student="{{_base_.model}}"))
    options = {"model.terms.near.strides": [8, 16], "model.terms.near.mask.level_assignment": "size"}
    page, *_ = compare_masks(str(config), 1, (), tmp_path, cfg_options=options)
    # With stride 8 the finest compared, the small boxes of image 1 belong to it and not to stride 4.
    expected = count(1, "iou", 0.65, "every")[1]
    assert page.rows[0].counts == [(0, 24 * 40), expected, (0, 6 * 10), (0, 3 * 5), (0, 2 * 3)]
    said = page.rows[0].captions
    assert said == ["stride 4: not compared", f"stride 8: {expected[0]} of 240 cells", "stride 16: 0 of 60 cells"] + [
        f"stride {s}: not compared" for s in (32, 64)
    ]
    with pytest.raises(ValueError, match=r"model.terms.near.strides: want some of \[4, 8, 16, 32, 64\], got \[5\]"):
        compare_masks(str(config), 1, (), tmp_path, cfg_options={"model.terms.near.strides": [5]})


def test_a_data_set_with_fewer_images_gives_fewer_pictures(folder, tmp_path):
    assert len(compare_masks(str(folder / "student.py"), images=9, psi=(), out=tmp_path, split="test")) == 3


def test_options_change_the_config(folder, tmp_path):
    options = {"model.rpn_head.anchor_generator.strides": [8, 16], "model.data_preprocessor.pad_size_divisor": 1}
    page, *_ = compare_masks(str(folder / "student.py"), 1, (), tmp_path, cfg_options=options)
    assert [cells for _, cells in page.rows[-1].counts] == [19 * 12, 10 * 6]  # 150x90, not padded


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(images=0), "images: want at least 1, got 0"),
        (dict(psi=(0.5, 1.2)), r"psi: want numbers in \[0, 1\], got 1.2"),
        (dict(psi=(float("nan"),)), r"psi: want numbers in \[0, 1\], got nan"),
        (dict(split="tset"), "split: want train, val or test, got 'tset'"),
        (dict(split="val"), "val_dataloader.dataset: none in the config, which has data for: train, test"),
        (dict(config="no/such.py"), "config='no/such.py' not found; the folder no does not exist"),
        (dict(cfg_options={"model": None}), "model: none in"),
        (dict(cfg_options={"model.rpn_head": {"_delete_": True}}), "bbox_head.anchor_generator or bbox_head.strides"),
        (dict(cfg_options={"model.type": "Distiller"}), "model.student must be a detector's model"),
        (dict(cfg_options={"test_dataloader.dataset.ann_file": "empty.json"}, split="test"), "CocoDataset found no im"),
        (dict(cfg_options={"test_dataloader.dataset.ann_file": "no.json"}, split="test"), "test_dataloader.dataset: c"),
        (dict(out=MODEL), "out: cannot write to"),
        (dict(out=MODEL / "below"), "out: cannot write to"),
    ],
    ids=str,
)
def test_a_mistake_gets_one_clear_message(folder, tmp_path, change, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        compare_masks(**{"config": str(folder / "student.py"), "out": tmp_path, "images": 1, **change})
    assert not list(tmp_path.glob("*.png"))


def test_the_tool_passes_everything_on_and_says_where_the_pictures_lie(folder, tmp_path, monkeypatch, capsys):
    command = f"tool {folder}/student.py --images 2 --psi 0.4 0.6 --out {tmp_path} --split test"
    option = "model.data_preprocessor.pad_size_divisor=64"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--cfg-options", option])
    runpy.run_path(str(ROOT / "tools/compare_masks.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert f"2 picture(s) in {tmp_path}" in said
    assert "2/2" in said  # the progress bar
    assert f"look closer: {tmp_path}/index.html" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000_im1.png", "0001_im2.png", "index.html"]


def test_the_tool_ends_with_the_message_alone(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", str(folder / "student.py"), "--images", "-3"])
    with pytest.raises(SystemExit, match=r"^compare_masks: images: want at least 1, got -3$"):
        runpy.run_path(str(ROOT / "tools/compare_masks.py"), run_name="__main__")


@pytest.mark.skipif(not (ROOT / "../shared/data/bccd").is_dir(), reason="the blood smears are not in ../shared/data")
def test_real_images_with_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"train_dataloader.dataset.data_root": str(ROOT / "../shared/data/bccd")}
    page, *_ = compare_masks(str(BCCD), images=1, psi=(0.2, 0.5), cfg_options=options)
    assert page.path.parent == Path("work_dirs/faster-rcnn_r18-half_fpn64/masks")
    assert page.path.is_file()
    near, middle = (sum(on for on, _ in row.counts) for row in page.rows[:2])
    assert near > middle > 0
