"""KITTI's folders are read as plain loops over lines read them, types become what the map says, mistakes are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from PIL import Image

import tiny
from det_distill.datasets.kitti import KittiDataset

ROOT = Path(__file__).parents[2]
TINY = ROOT.parent / "shared/data/kitti_tiny"
CONFIG = ROOT / "configs/_base_/datasets/kitti_tiny.py"
CLASSES = ("Car", "Pedestrian", "Cyclist")
KINDS = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")


def line(kind, box=(10, 20, 50.5, 60)):
    return f"{kind} 0.00 0 1.5 {' '.join(map(str, box))} 1.5 1.6 3.7 2.0 1.5 13.2 1.6\n"


def write(root, frame, *kinds, suffix=".png", size=(96, 64)):
    for folder in ("image_2", "label_2"):
        (root / "training" / folder).mkdir(parents=True, exist_ok=True)
    (root / f"training/label_2/{frame}.txt").write_text("".join(map(line, kinds)))
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(root / f"training/image_2/{frame}{suffix}")


@pytest.fixture
def root(tmp_path):
    """Five frames: every type, both suffixes, one empty, one of ignored areas alone, one low."""
    place = tmp_path / "kitti"
    write(place, "000003", *KINDS)
    write(place, "000001", "Cyclist", "Car", suffix=".jpg")
    write(place, "000007")
    write(place, "000010", "DontCare", "Van", suffix=".jpeg")
    write(place, "000012", "Pedestrian", size=(50, 31))
    (place / "training/image_2/notes.txt").touch()
    (place / "ImageSets").mkdir()
    return place


def read(root, **other):
    return DATASETS.build(dict(type="KittiDataset", data_root=str(root)) | other)


def infos(data):
    return [data.get_data_info(i) for i in range(len(data))]


def frames(data):
    return [info["img_id"] for info in infos(data)]


def seen(data, frame="000003"):
    """(label, ignore_flag) by type, of a frame with one object of each type."""
    (info,) = (info for info in infos(data) if info["img_id"] == frame)
    return [(one["bbox_label"], one["ignore_flag"]) for one in info["instances"]]


def by_hand(root):
    """What the folders hold by the default policy, by plain loops."""
    found = []
    for path in sorted((root / "training/label_2").glob("*.txt")):
        (image,) = (file for file in (root / "training/image_2").iterdir() if file.stem == path.stem)
        height, width, _ = np.array(Image.open(image)).shape
        boxes = []
        for row in map(str.split, path.read_text().splitlines()):
            box = [float(side) for side in row[4:8]]
            if row[0] in CLASSES:
                boxes.append((box, CLASSES.index(row[0]), 0))
            elif row[0] in ("Van", "Person_sitting", "DontCare"):
                boxes.append((box, {"Van": 0, "Person_sitting": 1, "DontCare": -1}[row[0]], 1))
        found.append((path.stem, str(image), width, height, boxes))
    return found


def as_rows(data):
    return [
        (
            *(info[key] for key in ("img_id", "img_path", "width", "height")),
            [(one["bbox"], one["bbox_label"], one["ignore_flag"]) for one in info["instances"]],
        )
        for info in infos(data)
    ]


def test_it_reads_what_plain_loops_read_sorted_by_frame(root):
    data = read(root)
    assert as_rows(data) == by_hand(root)
    assert frames(data) == ["000001", "000003", "000007", "000010", "000012"]
    assert data.metainfo["classes"] == CLASSES


def test_sizes_come_from_the_header_without_decoding(root, monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    assert [(info["width"], info["height"]) for info in infos(read(root))][-2:] == [(96, 64), (50, 31)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(), "Car0 Van0! Pedestrian1 Person_sitting1! Cyclist2 DontCare-1!"),
        (dict(class_map=dict(Van="Car")), "Car0 Van0 Pedestrian1 Person_sitting1! Cyclist2 DontCare-1!"),
        (
            dict(class_map=dict(Van="Car", Person_sitting="Pedestrian", Truck="ignore", DontCare=None)),
            "Car0 Van0 Truck-1! Pedestrian1 Person_sitting1 Cyclist2",
        ),
        (dict(metainfo=dict(classes=("Cyclist", "Van"))), "Van1 Person_sitting-1! Cyclist0 DontCare-1!"),
        (
            dict(metainfo=dict(classes=("vehicle",)), class_map=dict(Car="vehicle", Tram="vehicle")),
            "Car0 Van0! Person_sitting-1! Tram0 DontCare-1!",
        ),
    ],
    ids=str,
)
def test_types_become_classes_ignored_areas_or_nothing(root, settings, expected):
    """After each type its label, and ! where it is ignored."""
    boxes = {kind: [float(i), 0.0, 20.0, 20.0] for i, kind in enumerate(KINDS)}
    path = root / "training/label_2/000003.txt"
    path.write_text("".join(line(kind, box) for kind, box in boxes.items()))
    data = read(root, **settings, ann_file="")
    (info,) = (info for info in infos(data) if info["img_id"] == "000003")
    told = [f"{KINDS[int(one['bbox'][0])]}{one['bbox_label']}{'!' * one['ignore_flag']}" for one in info["instances"]]
    assert told == expected.split()


def test_ignored_areas_are_mmdetection_s_ignored_instances_and_boxes_follow(root):
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(192, 128), keep_ratio=True),
        dict(type="PackDetInputs"),
    ]
    packed = read(root, pipeline=pipeline)[1]
    assert packed["inputs"].shape == (3, 128, 192)
    sample = packed["data_samples"]
    assert sample.gt_instances.labels.tolist() == [0, 1, 2]
    assert sample.gt_instances.bboxes.tensor.tolist() == 3 * [[20, 40, 101, 120]]
    assert len(sample.ignored_instances) == 3


def test_ann_file_chooses_and_orders(root):
    (root / "ImageSets/val.txt").write_text("000010\n000001\n\n")
    assert frames(read(root, ann_file="ImageSets/val.txt")) == ["000010", "000001"]


@pytest.mark.parametrize("every", [2, 3, 5])
def test_train_and_val_share_the_frames_whatever_is_filtered(root, every):
    whole = frames(read(root))
    val = frames(read(root, split="val", val_every=every, test_mode=True))
    assert val == [frame for i, frame in enumerate(whole) if i % every == every - 1]
    assert frames(read(root, split="train", val_every=every)) == [frame for frame in whole if frame not in val]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (dict(filter_empty_gt=True), "1 3 12"),
        (dict(min_size=32), "1 3 7 10"),
        (dict(min_size=31), "1 3 7 10 12"),
        (dict(filter_empty_gt=True, min_size=32), "1 3"),
        (None, "1 3 7 10 12"),
    ],
    ids=str,
)
def test_filter_cfg_drops_frames_in_training_only(root, rule, left):
    assert frames(read(root, filter_cfg=rule)) == [f"{int(frame):06}" for frame in left.split()]
    assert frames(read(root, filter_cfg=rule, test_mode=True)) == frames(read(root))


def test_without_labels_every_image_is_a_frame_without_instances(root):
    data = read(root, data_prefix=dict(label=None), test_mode=True)
    assert frames(data) == ["000001", "000003", "000007", "000010", "000012"]
    assert not any(info["instances"] for info in infos(data))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(class_map=dict(Vna="Car")), r"class_map\.Vna is unknown, did you mean 'Van'\?; known: Car, Van"),
        (dict(class_map=dict(Van="Cars")), r"class_map\.Van='Cars' is none of 'Car', .*'ignore', did you mean 'Car'\?"),
        (dict(metainfo=dict(classes=("car",))), r"metainfo\.classes: no type becomes 'car', did you mean 'Car'\?"),
        (dict(class_map=dict(Cyclist=None)), r"metainfo\.classes: no type becomes 'Cyclist'"),
        (dict(data_prefix=dict(labels="x")), r"data_prefix\.labels is unknown, did you mean 'label'\?"),
        (dict(filter_cfg=dict(min_sizes=3)), r"filter_cfg\.min_sizes is unknown, did you mean 'min_size'\?"),
        (dict(split="vla"), r"split='vla' is unknown, did you mean 'val'\?"),
        (dict(split="val", val_every=6), "val_every=6 leaves no val among 5 frames"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(root, wrong, message):
    with pytest.raises(ValueError, match=message):
        read(root, **wrong)


@pytest.mark.parametrize("key", ["img", "label"])
def test_a_missing_folder_names_the_nearest(root, key):
    folder = dict(img="image_2", label="label_2")[key]
    with pytest.raises(FileNotFoundError, match=rf"data_prefix\.{key}: .*did you mean .*{folder}\?"):
        read(root, data_prefix={key: f"training/{folder.replace('_', '')}"})


def test_a_frame_without_its_files_is_named(root):
    (root / "ImageSets/val.txt").write_text("000010\n000013\n")
    with pytest.raises(
        ValueError, match=r"data_prefix\.img=.*lacks 1 frames that ann_file=.*val\.txt' has, as '000013'"
    ):
        read(root, ann_file="ImageSets/val.txt")
    (root / "training/image_2/000012.png").unlink()
    with pytest.raises(ValueError, match=r"data_prefix\.img=.*lacks 1 frames that data_prefix\.label has, as '000012'"):
        read(root)


def test_two_images_of_a_frame_or_none_at_all_are_refused(root):
    write(root, "000003", suffix=".jpg")
    with pytest.raises(ValueError, match=r"data_prefix\.img=.* has 1 frames twice, as 000003"):
        read(root)
    for path in (root / "training/label_2").iterdir():
        path.unlink()
    (root / "training/image_2/000003.jpg").unlink()
    with pytest.raises(ValueError, match="no frames there"):
        read(root)


def test_a_broken_line_or_an_unknown_type_names_file_and_line(root):
    path = root / "training/label_2/000007.txt"
    path.write_text(line("Car") + "Car 1 2 3\n")
    with pytest.raises(ValueError, match=r"label_2/000007\.txt, line 2: 4 columns, expected 15"):
        read(root)
    path.write_text(line("Pedestrain"))
    with pytest.raises(
        ValueError, match=r"000007\.txt, line 1: type 'Pedestrain' is unknown, did you mean 'Pedestrian'"
    ):
        read(root)


# ---------------------------------------------------------------- real frames, and the config


@pytest.fixture
def config():
    if not TINY.is_dir():
        pytest.skip("no ../shared/data/kitti_tiny")
    config = Config.fromfile(CONFIG)
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.data_root = str(TINY)
    return config


@pytest.mark.shared_data
def test_real_frames_are_what_plain_loops_say(config):
    data = read(TINY)
    assert as_rows(data) == by_hand(TINY)
    assert len(data) == 75


@pytest.mark.shared_data
def test_the_config_cuts_every_fifth_frame_and_feeds_half_the_size(config):
    train, val = (DATASETS.build(loader.dataset) for loader in (config.train_dataloader, config.val_dataloader))
    assert (len(train), len(val)) == (60, 15)
    assert frames(val) == [f"{i:06}" for i in range(4, 75, 5)]
    assert not set(frames(train)) & set(frames(val))
    for data in (train, val):
        height, width = data[0]["inputs"].shape[1:]
        assert (height, width) == pytest.approx((188, 624), abs=4)


@pytest.mark.shared_data
def test_a_batch_of_frames_trains_a_detector(config):
    data = DATASETS.build(config.train_dataloader.dataset)
    model, total = tiny.trained_step(data, classes=3)
    assert total.isfinite()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.shared_data
@pytest.mark.parametrize("forgiven", ["Van", "Truck"])
def test_coco_metric_judges_by_the_truth_in_the_samples_and_forgives_neighbours(config, forgiven):
    """Perfect detections, and a car with the best scores where a van or a truck is: only the truck is a mistake."""
    cfg = config.val_dataloader.dataset
    cfg.pipeline[-1].meta_keys = (*cfg.pipeline[-1].meta_keys, "instances")
    data = KittiDataset(**{key: value for key, value in cfg.items() if key != "type"})
    metric = METRICS.build(dict(type="CocoMetric", metric="bbox"))
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        sample, info = data[i]["data_samples"], data.get_data_info(i)
        label_file = TINY / f"training/label_2/{info['img_id']}.txt"
        rows = [row.split() for row in label_file.read_text().splitlines()]
        others = [[float(side) for side in row[4:8]] for row in rows if row[0] == forgiven]
        truth = [one for one in info["instances"] if not one["ignore_flag"]]
        found = dict(
            bboxes=torch.tensor([one["bbox"] for one in truth] + others).reshape(-1, 4),
            labels=torch.tensor([one["bbox_label"] for one in truth] + len(others) * [0], dtype=torch.long),
            scores=torch.tensor(len(truth) * [0.5] + len(others) * [0.9]),
        )
        metric.process({}, [dict(sample.metainfo, pred_instances=found)])
    found = metric.evaluate(len(data))["coco/bbox_mAP_50"]
    assert (found > 0.999) == (forgiven == "Van")


def test_the_configs_build_and_name_kitti_s_own_folders(monkeypatch):
    tiny_config = Config.fromfile(ROOT / "configs/kitti/faster-rcnn_r18-half_fpn64_tiny.py")
    assert MODELS.build(tiny_config.model).roi_head.bbox_head.num_classes == 3
    whole = Config.fromfile(ROOT / "configs/_base_/datasets/kitti.py")
    assert [loader.dataset.ann_file for loader in (whole.train_dataloader, whole.val_dataloader)] == [
        "ImageSets/train.txt",
        "ImageSets/val.txt",
    ]
    for one in (whole, tiny_config):
        assert one.val_evaluator.ann_dir == one.data_root + one.val_dataloader.dataset.data_prefix.label
        assert one.val_evaluator.type == "det_distill.metrics.kitti.KittiMetric"
        assert one.train_dataloader.dataset.type == "det_distill.datasets.kitti.KittiDataset"
