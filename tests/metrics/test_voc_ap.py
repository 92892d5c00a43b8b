"""VOCMetric is the VOC devkit's VOCevaldet.m, but for what the tests below its heading say; VOC's data are read whole.

The devkit (VOC2012, 18-May-2011): pixels are cells, so a side is x2 - x1 + 1; a detection goes to the object of its
class it overlaps most and is right at an IoU of .5 or more; a second one there is false; a difficult object counts
neither way.
"""

import itertools
import json
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from mmdet.datasets import VOCDataset
from mmdet.registry import DATASETS, METRICS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

import det_distill.datasets.voc_folder  # noqa: F401
from det_distill.configs import override

ROOT = Path(__file__).parents[2]
VOC = ROOT.parent / "shared/data/voc2012_100"
XML = VOC / "gts/pascalvoc_format"
BASES = ROOT / "configs/_base_/datasets"
LOADS = [dict(type="LoadAnnotations", with_bbox=True), dict(type="PackDetInputs", meta_keys=("img_id",))]
NAMES = VOCDataset.METAINFO["classes"]
HALF = Fraction(1, 2)
TENTHS = tuple(k / 10 for k in range(11))
SUMMED = tuple(k * 0.1 for k in range(11))  # the third, sixth and seventh are a bit more than .3, .6 and .7
Box = tuple[int, int, int, int]
Truth = dict[str, list[tuple[str, Box, bool]]]  # by image: class, box, difficult
Found = list[tuple[float, str, str, Box]]  # score, image, class, box


# ---------------------------------------------------------------- the devkit, by hand


def iou(one: Box, other: Box, cell: int) -> Fraction:
    width = min(one[2], other[2]) - max(one[0], other[0]) + cell
    height = min(one[3], other[3]) - max(one[1], other[1]) + cell
    if width <= 0 or height <= 0:
        return Fraction(0)
    areas = [(x2 - x1 + cell) * (y2 - y1 + cell) for x1, y1, x2, y2 in (one, other)]
    return Fraction(width * height, sum(areas) - width * height)


def curve(name: str, truth: Truth, found: Found, threshold: Fraction, cell: int) -> list[tuple[Fraction, Fraction]]:
    """Recall and precision after each detection that counts."""
    objects = sum(kind == name and not difficult for own in truth.values() for kind, _, difficult in own)
    taken, right, wrong, points = set(), 0, 0, []
    for _, image, kind, box in sorted(found, key=lambda row: -row[0]):
        if kind != name:
            continue
        best, which = Fraction(0), None
        for j, (other, place, _) in enumerate(truth[image]):
            if other == name and iou(box, place, cell) > best:
                best, which = iou(box, place, cell), j
        if which is not None and best >= threshold and truth[image][which][2]:
            continue
        if which is not None and best >= threshold and (image, which) not in taken:
            taken.add((image, which))
            right += 1
        else:
            wrong += 1
        points.append((Fraction(right, objects), Fraction(right, right + wrong)))
    return points


def devkit(
    truth: Truth,
    found: Found,
    names: tuple,
    mode: str,
    threshold: Fraction = HALF,
    cell: int = 1,
    tenths: tuple = TENTHS,
) -> float:
    """Mean AP over the classes that have an object which is not difficult."""
    aps = []
    for name in names:
        if not any(kind == name and not difficult for own in truth.values() for kind, _, difficult in own):
            continue
        points = curve(name, truth, found, threshold, cell)

        def best(least: float, points: list = points) -> Fraction:
            return max((precision for recall, precision in points if float(recall) >= least), default=Fraction(0))

        if mode == "11points":
            aps.append(sum(best(tenth) for tenth in tenths) / 11)
        else:
            steps = sorted({recall for recall, _ in points} | {Fraction(0)})
            aps.append(sum((high - low) * best(float(high)) for low, high in itertools.pairwise(steps)))
    return float(sum(aps) / len(aps))


# ---------------------------------------------------------------- MMDetection, by its own data set and pipeline


def vocmetric(data, found: Found, mode: str, **settings) -> dict:
    """VOCMetric on a data set; the detections are in the XML's pixels, which count from 1."""
    metric = METRICS.build(dict(type="VOCMetric", eval_mode=mode, **settings))
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        sample: DetDataSample = data[i]["data_samples"]
        own = [
            (box, data.metainfo["classes"].index(kind), s) for s, image, kind, box in found if image == sample.img_id
        ]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([box for box, _, _ in own], dtype=torch.float32).reshape(-1, 4) - 1,
            labels=torch.tensor([label for _, label, _ in own], dtype=torch.long),
            scores=torch.tensor([score for _, _, score in own], dtype=torch.float32),
        )
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(len(data))


def write(root: Path, year: str, truth: Truth, **splits: list[str]) -> Path:
    """A VOCdevkit without images."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / year / folder).mkdir(parents=True, exist_ok=True)
    for image, own in truth.items():
        things = "".join(
            f"<object><name>{kind}</name><difficult>{int(difficult)}</difficult><bndbox>"
            + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            + "</bndbox></object>"
            for kind, box, difficult in own
        )
        text = f"<annotation><size><width>500</width><height>400</height></size>{things}</annotation>"
        (root / year / f"Annotations/{image}.xml").write_text(text)
    for split, images in splits.items():
        (root / year / f"ImageSets/Main/{split}.txt").write_text("\n".join(images))
    return root


def read(root: Path, year: str = "VOC2012", split: str = "all", **other):
    return DATASETS.build(
        dict(
            type="VOCDataset",
            data_root=str(root),
            data_prefix=dict(sub_data_root=f"{year}/"),
            ann_file=f"{year}/ImageSets/Main/{split}.txt",
            test_mode=True,
            pipeline=LOADS,
            **other,
        )
    )


@pytest.fixture
def photos() -> tuple[Truth, Found]:
    """The hundred photos' objects by plain ElementTree, and the detections that come with them."""
    if not VOC.is_dir():
        pytest.skip("no ../shared/data/voc2012_100")
    truth = {
        path.stem: [
            (
                thing.findtext("name"),
                tuple(int(side.text) for side in thing.find("bndbox")),
                thing.findtext("difficult") == "1",
            )
            for thing in ET.parse(path).getroot().findall("object")
        ]
        for path in sorted(XML.glob("*.xml"))
    }
    told = json.loads((VOC / "dets/coco_format/coco_dets.json").read_text())
    names = {one["id"]: one["name"] for one in told["categories"]}
    images = {one["id"]: Path(one["file_name"]).stem for one in told["images"]}
    found = [
        (one["score"], images[one["image_id"]], names[one["category_id"]], (x, y, x + w, y + h))
        for one in told["annotations"]
        for x, y, w, h in [map(int, one["bbox"])]
    ]
    assert (len(truth), sum(map(len, truth.values())), len(found)) == (100, 273, 452)
    return truth, found


@pytest.fixture
def folder(photos: tuple, tmp_path: Path) -> Path:
    """Images and XML side by side, as VOCFolderDataset takes them; links, nothing is copied."""
    for path in [*XML.glob("*.xml"), *(VOC / "images").glob("*.jpg")]:
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def read_folder(folder: Path, names: tuple):
    meta = dict(metainfo=dict(classes=names))
    return DATASETS.build(
        dict(
            type="VOCFolderDataset", data_root=str(folder), test_mode=True, pipeline=LOADS, serialize_data=False, **meta
        )
    )


@pytest.mark.shared_data
@pytest.mark.parametrize(("year", "mode"), [("VOC2007", "11points"), ("VOC2012", "area")])
def test_vocmetric_is_the_devkit_on_a_hundred_photos(photos: tuple, tmp_path: Path, year: str, mode: str) -> None:
    truth, found = photos
    data = read(write(tmp_path, year, truth, all=list(truth)), year)
    told = vocmetric(data, found, mode)
    by_hand = devkit(truth, found, NAMES, mode)
    assert told["pascal_voc/mAP"] == pytest.approx(by_hand, abs=1e-6)
    assert told["pascal_voc/AP50"] == round(by_hand, 3)
    # Each rule shows in these numbers: without it they are others.
    plain = {image: [(kind, box, False) for kind, box, _ in own] for image, own in truth.items()}
    dropped = {image: [row for row in own if not row[2]] for image, own in truth.items()}
    for other in (devkit(plain, found, NAMES, mode), devkit(dropped, found, NAMES, mode)):
        assert abs(other - by_hand) > 1e-3


@pytest.mark.shared_data
@pytest.mark.parametrize("names", [NAMES, ("person",), ("chair", "bottle")], ids=["all", "person", "two"])
def test_vocmetric_is_the_devkit_on_a_folder_of_photos(folder: Path, photos: tuple, names: tuple) -> None:
    truth, found = photos
    own = [row for row in found if row[2] in names]
    told = vocmetric(read_folder(folder, names), own, "area")
    assert told["pascal_voc/mAP"] == pytest.approx(devkit(truth, own, names, "area"), abs=1e-6)


@pytest.mark.parametrize(("right", "found"), [(10, True), (9, False)], ids=["half", "less"])
def test_a_side_is_one_longer_than_the_difference(tmp_path: Path, right: int, found: bool) -> None:
    # 20 cells by 1; 10 of them: IoU .5 with the +1, 9 / 19 without, which is less.
    truth = {"a": [("cat", (1, 1, 20, 1), False)]}
    data = read(write(tmp_path, "VOC2012", truth, all=["a"]))
    box = (1, 1, right, 1)
    assert vocmetric(data, [(0.9, "a", "cat", box)], "area")["pascal_voc/mAP"] == found
    assert devkit(truth, [(0.9, "a", "cat", box)], NAMES, "area") == found
    assert devkit(truth, [(0.9, "a", "cat", box)], NAMES, "area", cell=0) == 0


def test_classes_without_objects_are_no_part_of_the_mean_and_those_without_detections_are_zero(tmp_path: Path) -> None:
    # cat: found. dog: not found, AP 0. cow: difficult alone, so no object; car: none, and a false detection.
    places = [(1, 1, 50, 50), (100, 1, 150, 50), (200, 1, 250, 50)]
    truth = {"a": [("cat", places[0], False), ("dog", places[1], False), ("cow", places[2], True)], "b": []}
    found = [(0.9, "a", "cat", places[0]), (0.8, "a", "cow", places[2]), (0.7, "b", "car", places[0])]
    data = read(write(tmp_path, "VOC2012", truth, all=["a", "b"]))
    for mode in ("11points", "area"):
        assert vocmetric(data, found, mode)["pascal_voc/mAP"] == devkit(truth, found, NAMES, mode) == 0.5


@pytest.mark.parametrize(("year", "mode"), [("VOC2007", "area"), ("VOC2012", "11points")])
def test_the_year_does_not_choose_the_mode_it_warns(tmp_path: Path, year: str, mode: str) -> None:
    truth = {"a": [("cat", (1, 1, 50, 50), False)], "b": [("cat", (1, 1, 50, 50), False)]}
    found = [(0.9, "a", "cat", (1, 1, 50, 50))]
    data = read(write(tmp_path, year, truth, all=["a", "b"]), year)
    with pytest.warns(UserWarning, match=f"Pascal {year} uses"):
        told = vocmetric(data, found, mode)["pascal_voc/mAP"]
    assert told == pytest.approx({"area": 1 / 2, "11points": 6 / 11}[mode], abs=1e-6)


# ---------------------------------------------------------------- where VOCMetric is not the devkit


@pytest.mark.parametrize("tenths", [3, 6, 7])
def test_eleven_points_miss_a_last_recall_of_exactly_three_six_or_seven_tenths(tmp_path: Path, tenths: int) -> None:
    """Its points are multiples of a float tenth, and these three are a bit more than they should be."""
    place = (1, 1, 50, 50)
    truth = {f"{i}": [("cat", place, False)] for i in range(10)}
    found = [(1 - i / 20, f"{i}", "cat", place) for i in range(tenths)]
    told = vocmetric(read(write(tmp_path, "VOC2007", truth, all=list(truth)), "VOC2007"), found, "11points")
    assert devkit(truth, found, NAMES, "11points") == pytest.approx((tenths + 1) / 11)
    assert told["pascal_voc/mAP"] == pytest.approx(tenths / 11, abs=1e-6)


@pytest.mark.shared_data
def test_the_missed_point_costs_a_few_tenths_on_a_hundred_photos(photos: tuple, tmp_path: Path) -> None:
    """At an IoU of .7, where a class of ten bicycles ends so: .0030 of the mean of twenty classes."""
    truth, found = photos
    data = read(write(tmp_path, "VOC2007", truth, all=list(truth)), "VOC2007")
    told = vocmetric(data, found, "11points", iou_thrs=0.7)["pascal_voc/mAP"]
    by_hand = devkit(truth, found, NAMES, "11points", Fraction(7, 10))
    assert told == pytest.approx(devkit(truth, found, NAMES, "11points", Fraction(7, 10), tenths=SUMMED), abs=1e-6)
    assert by_hand - told == pytest.approx(0.0030, abs=1e-4)


def test_of_a_difficult_and_another_object_in_one_place_the_other_comes_first(tmp_path: Path) -> None:
    """The devkit takes the first of the XML where overlaps are equal, VOCMetric one that is not difficult."""
    place = (1, 1, 50, 50)
    truth = {"a": [("cat", place, True), ("cat", place, False)]}
    found = [(0.9, "a", "cat", place)]
    assert devkit(truth, found, NAMES, "area") == 0
    assert vocmetric(read(write(tmp_path, "VOC2012", truth, all=["a"])), found, "area")["pascal_voc/mAP"] == 1


def test_equal_scores_come_in_no_order_to_rely_on(tmp_path: Path) -> None:
    """The devkit keeps the order of its files; numpy's sort, by default, keeps none."""
    place, far = (1, 1, 50, 50), (200, 200, 250, 250)
    truth = {f"{i:02}": [("cat", place, False)] for i in range(40)}
    hits, misses = ([(0.5, image, "cat", box) for image in truth] for box in (place, far))
    told = vocmetric(read(write(tmp_path, "VOC2012", truth, all=list(truth))), hits + misses, "area")["pascal_voc/mAP"]
    assert devkit(truth, hits + misses, NAMES, "area") == 1
    assert devkit(truth, misses + hits, NAMES, "area") == 0.5
    assert 0.5 <= told <= 1


def test_recall_looks_at_the_detections_of_the_first_class_alone(tmp_path: Path) -> None:
    """metric="recall" is meant for proposals, which have one class."""
    place = (1, 1, 50, 50)
    data = read(write(tmp_path, "VOC2012", {"a": [("cat", place, False)]}, all=["a"]))
    first = data.metainfo["classes"][0]
    recalls = [
        vocmetric(data, [(0.9, "a", name, place)], "area", metric="recall")["pascal_voc/recall@100@0.5"]
        for name in (first, "cat")
    ]
    assert recalls == [1, 0]


# ---------------------------------------------------------------- the same boxes from XML and json


@pytest.mark.shared_data
def test_xml_and_json_differ_by_one_pixel_and_the_difficult_flag(folder: Path, photos: tuple) -> None:
    """The json keeps VOC's own coordinates, which count from 1; XMLDataset takes 1 off all four. It has no flags."""
    truth, _ = photos
    told = json.loads((VOC / "gts/coco_format_v1/instances_default.json").read_text())
    order = tuple(one["name"] for one in told["categories"])
    settings = dict(data_root=str(VOC), ann_file="gts/coco_format_v1/instances_default.json", test_mode=True)
    settings |= dict(data_prefix=dict(img="images/"), pipeline=LOADS, type="CocoDataset")
    coco, xml = DATASETS.build(settings | dict(metainfo=dict(classes=order))), read_folder(folder, order)

    def seen(data, shift: int) -> dict:
        infos = [data.get_data_info(i) for i in range(len(data))]
        return {
            Path(info["img_path"]).stem: (
                *(info["width"], info["height"]),
                sorted((one["bbox_label"], *(side + shift for side in one["bbox"])) for one in info["instances"]),
            )
            for info in infos
        }

    assert seen(coco, 0) == seen(xml, 1)
    assert {image: own for image, (_, _, own) in seen(coco, 0).items()} == {
        image: sorted((order.index(kind), *box) for kind, box, _ in own) for image, own in truth.items()
    }
    flags = [
        sum(one["ignore_flag"] for i in range(len(data)) for one in data.get_data_info(i)["instances"])
        for data in (coco, xml)
    ]
    assert flags == [0, 38]


@pytest.mark.shared_data
def test_cocodataset_labels_by_the_order_of_the_json_whatever_the_order_of_the_classes() -> None:
    """So metainfo.classes must be in the json's order, or names and labels part."""
    if not VOC.is_dir():
        pytest.skip("no ../shared/data/voc2012_100")
    path = VOC / "gts/coco_format_v1/instances_default.json"
    order = tuple(one["name"] for one in json.loads(path.read_text())["categories"])
    labels = []
    for names in (order, tuple(sorted(order))):
        settings = dict(type="CocoDataset", ann_file=str(path), test_mode=True, pipeline=LOADS)
        data = DATASETS.build(settings | dict(data_prefix=dict(img=""), metainfo=dict(classes=names)))
        labels.append([one["bbox_label"] for i in range(len(data)) for one in data.get_data_info(i)["instances"]])
    assert labels[0] == labels[1]


# ---------------------------------------------------------------- the configs


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A devkit of both years: ten images each, cut in two; the last has a difficult cow, the first a small cat."""
    for year, splits in (("VOC2007", ("trainval", "test")), ("VOC2012", ("train", "val"))):
        images = [f"{year}_{i}" for i in range(10)]
        truth = {image: [("cat", (10, 10, 90, 90), False)] for image in images}
        truth[images[0]].append(("cat", (1, 1, 20, 20), False))
        truth[images[9]].append(("cow", (100, 100, 200, 200), True))
        write(tmp_path, year, truth, **{splits[0]: images[:7], splits[1]: images[7:]})
    return tmp_path


def config(name: str, root: Path) -> Config:
    cfg = Config.fromfile(BASES / f"{name}.py")
    override(cfg, dict(data_root=str(root)))
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline = LOADS
    return cfg


@pytest.mark.parametrize(("name", "year", "mode"), [("voc07", "VOC2007", "11points"), ("voc12", "VOC2012", "area")])
def test_one_year_of_voc_trains_and_tests_on_itself(kit: Path, name: str, year: str, mode: str) -> None:
    cfg = config(name, kit)
    train, val, test = (
        DATASETS.build(loader.dataset) for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    )
    assert {train.dataset.get_data_info(i)["img_id"] for i in range(7)} == {f"{year}_{i}" for i in range(7)}
    assert len(train) == 3 * 7  # the stock schedules count epochs of three passes
    for data in (val, test):
        assert [data.get_data_info(i)["img_id"] for i in range(len(data))] == [f"{year}_{i}" for i in range(7, 10)]
        assert (data.metainfo["dataset_type"], len(data.metainfo["classes"])) == (year, 20)
    small = train.dataset.get_data_info(0)["instances"]
    assert [one["ignore_flag"] for one in small] == [0, 1]  # sides below 32, as in the stock base
    assert [one["ignore_flag"] for one in val.get_data_info(2)["instances"]] == [0, 1]
    assert cfg.val_evaluator == cfg.test_evaluator
    metric = METRICS.build(cfg.val_evaluator)
    assert (type(metric).__name__, metric.eval_mode) == ("VOCMetric", mode)


def test_widerface_reads_the_stock_layout_and_both_metrics_ignore_difficult_faces(tmp_path: Path) -> None:
    faces = [("face", (0, 3, 30, 40), False), ("face", (50, 50, 58, 60), False), ("face", (70, 0, 99, 40), True)]
    truth = {"0_Parade_1": faces}
    for split in ("train", "val"):
        write(tmp_path, "made", truth)
        (tmp_path / f"WIDER_{split}/Annotations").mkdir(parents=True)
        text = (tmp_path / "made/Annotations/0_Parade_1.xml").read_text()
        text = text.replace("<size>", "<folder>0--Parade</folder><size>")
        (tmp_path / f"WIDER_{split}/Annotations/0_Parade_1.xml").write_text(text)
        (tmp_path / f"{split}.txt").write_text("0_Parade_1\n")
    cfg = config("widerface", tmp_path)
    train, val = (DATASETS.build(loader.dataset) for loader in (cfg.train_dataloader, cfg.val_dataloader))
    info = val.get_data_info(0)
    assert info["img_path"] == str(tmp_path / "WIDER_val/0--Parade/0_Parade_1.jpg")
    boxes = [one["bbox"] for one in info["instances"]]
    assert boxes == [list(box) for _, box, _ in faces]  # these count from 0
    assert [one["ignore_flag"] for one in info["instances"]] == [0, 0, 1]
    assert [one["ignore_flag"] for one in train.get_data_info(0)["instances"]] == [0, 1, 1]  # sides below 17
    assert cfg.val_evaluator == cfg.test_evaluator
    # The difficult face is found first: neither right nor wrong. Both others are found.
    found = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        labels=torch.zeros(3, dtype=torch.long),
        scores=torch.tensor([0.7, 0.8, 0.9]),
    )
    told = {}
    for evaluator in cfg.val_evaluator:
        metric = METRICS.build(evaluator)
        metric.dataset_meta = val.metainfo
        sample = val[0]["data_samples"]
        sample.pred_instances = found
        metric.process({}, [sample.to_dict()])
        told |= metric.evaluate(1)
    assert (told["pascal_voc/mAP"], told["miss_rate/MR-2"]) == pytest.approx((1, 1e-10), rel=1e-6)
