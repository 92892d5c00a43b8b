"""CocoMetric as our configs use it, without a json, reports what pycocotools says of the same boxes."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import det_distill.datasets.voc_folder  # noqa: F401

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/data"
VOC, COCO128 = SHARED / "voc2012_100", SHARED / "coco128"
KEYS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")


@pytest.fixture
def bccd() -> Config:
    """The config whose pipeline and evaluator are judged."""
    if not (VOC.is_dir() and COCO128.is_dir()):
        pytest.skip("no ../shared/data/voc2012_100 or coco128")
    return Config.fromfile(ROOT / "configs/_base_/datasets/bccd.py")


def dataset(cfg: Config, kind: str, root: Path, images: str, classes: tuple, ann_file: Path | str = ""):
    return DATASETS.build(
        dict(
            type=kind,
            data_root=str(root),
            ann_file=str(ann_file),
            data_prefix=dict(img=images),
            metainfo=dict(classes=classes),
            test_mode=True,
            pipeline=cfg.test_pipeline,
        )
    )


def reported(cfg: Config, data, found: list[dict], number) -> dict[str, float]:
    """CocoMetric, fed by the data set and its pipeline; `number` maps an image's path to its id in `found`."""
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = data.metainfo
    classes = list(data.metainfo["classes"])
    for i in range(len(data)):
        sample = data[i]["data_samples"]
        own = [one for one in found if one["image_id"] == number(Path(sample.img_path))]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in own)]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float64).reshape(-1, 4),
            labels=torch.tensor([classes.index(one["name"]) for one in own], dtype=torch.long),
            scores=torch.tensor([one["score"] for one in own], dtype=torch.float64),
        )
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(len(data))


def by_hand(truth: dict, found: list[dict]) -> dict[str, float]:
    """pycocotools with its own settings, not MMDetection's."""
    api = COCO()
    api.dataset = truth
    api.createIndex()
    ids = {one["name"]: one["id"] for one in truth["categories"]}
    rows = [
        dict(image_id=one["image_id"], bbox=list(one["bbox"]), score=one["score"], category_id=ids[one["name"]])
        for one in found
    ]
    judge = COCOeval(api, api.loadRes(rows), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return {f"coco/bbox_{key}": round(value, 3) for key, value in zip(KEYS, judge.stats, strict=False)}


def sized_by_boxes(truth: dict) -> dict:
    annotations = [one | dict(area=one["bbox"][2] * one["bbox"][3]) for one in truth["annotations"]]
    return truth | dict(annotations=annotations)


def jittered(truth: dict, seed: int) -> list[dict]:
    """Two detections an object, one near and one far off, and of other scores; some are lost, some of another class."""
    rng = np.random.default_rng(seed)
    names = {one["id"]: one["name"] for one in truth["categories"]}
    found = []
    for one in truth["annotations"]:
        for spread, best in ((0.06, 1.0), (0.3, 0.7)):
            if rng.random() < 0.15:
                continue
            x, y, w, h = one["bbox"]
            dx, dy, dw, dh = rng.normal(0, spread, 4)
            name = names[one["category_id"]] if rng.random() < 0.9 else str(rng.choice([*names.values()]))
            box = (x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh))
            found.append(dict(image_id=one["image_id"], bbox=[*map(float, box)], score=best * rng.random(), name=name))
    return found


def voc_detections() -> tuple[list[dict], dict[str, int]]:
    """The detections that come with the photos, and the id of each photo in them."""
    told = json.loads((VOC / "dets/coco_format/coco_dets.json").read_text())
    names = {one["id"]: one["name"] for one in told["categories"]}
    found = [
        dict(image_id=one["image_id"], bbox=one["bbox"], score=one["score"], name=names[one["category_id"]])
        for one in told["annotations"]
    ]
    return found, {Path(one["file_name"]).stem: one["id"] for one in told["images"]}


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("split", "images"), [("train2017", "train2017/"), ("val2017_from_yolo", "val2017/")], ids=["train", "val"]
)
def test_on_coco_by_jittered_boxes(bccd: Config, split: str, images: str) -> None:
    path = COCO128 / f"annotations/instances_{split}.json"
    truth = json.loads(path.read_text())
    found = jittered(truth, seed=5)
    data = dataset(bccd, "CocoDataset", COCO128, images, tuple(one["name"] for one in truth["categories"]), path)
    crowds = sum(one["iscrowd"] for one in truth["annotations"])
    flags = [one["ignore_flag"] for i in range(len(data)) for one in data.get_data_info(i)["instances"]]
    assert (len(data), len(flags), sum(flags)) == (128, len(truth["annotations"]), crowds)
    assert crowds == (10 if split == "train2017" else 0)

    told = reported(bccd, data, found, lambda path: int(path.stem))

    assert told == by_hand(sized_by_boxes(truth), found)
    assert all(0.1 < value < 0.9 for value in told.values())
    # The json sizes an object by its mask: small, medium and large are others then, and the rest is not.
    masks = by_hand(truth, found)
    assert [told[f"coco/bbox_{key}"] == masks[f"coco/bbox_{key}"] for key in KEYS[:3]] == [True] * 3
    assert (told == masks) == (split != "train2017")
    if crowds:
        lost = truth | dict(annotations=[one for one in truth["annotations"] if not one["iscrowd"]])
        assert told != by_hand(sized_by_boxes(lost), found)


@pytest.mark.shared_data
def test_on_voc_photos_by_their_json(bccd: Config) -> None:
    path = VOC / "gts/coco_format_v1/instances_default.json"
    truth = json.loads(path.read_text())
    found, ids = voc_detections()
    photos = {one["id"]: ids.get(Path(one["file_name"]).stem, -1 - one["id"]) for one in truth["images"]}
    classes = tuple(one["name"] for one in truth["categories"])
    data = dataset(bccd, "CocoDataset", VOC, "images/", classes, path)
    told = reported(bccd, data, found, lambda path: ids.get(path.stem))
    renumbered = truth | dict(
        images=[one | dict(id=photos[one["id"]]) for one in truth["images"]],
        annotations=[one | dict(image_id=photos[one["image_id"]]) for one in truth["annotations"]],
    )
    assert told == by_hand(renumbered, found)
    assert told["coco/bbox_mAP_50"] > 0.5


@pytest.mark.shared_data
def test_on_voc_photos_by_their_xml_difficult_objects_are_crowds(bccd: Config, tmp_path: Path) -> None:
    """VOC's difficult objects come as ignored ones, and CocoMetric makes crowds of these: nobody has to find them."""
    found, ids = voc_detections()
    annotations, images = [], []
    for number, path in enumerate(sorted((VOC / "gts/pascalvoc_format").glob("*.xml")), 1000):
        (tmp_path / path.name).symlink_to(path)
        (tmp_path / f"{path.stem}.jpg").symlink_to(VOC / f"images/{path.stem}.jpg")
        images.append(dict(id=ids.setdefault(path.stem, number)))
        for thing in ET.parse(path).getroot().findall("object"):
            left, top, right, bottom = (int(side.text) for side in thing.find("bndbox"))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=ids[path.stem],
                    name=thing.findtext("name"),
                    bbox=[left - 1, top - 1, right - left, bottom - top],
                    iscrowd=int(thing.findtext("difficult")),
                )
            )
    classes = tuple(sorted({one["name"] for one in annotations}))
    categories = [dict(id=i, name=name) for i, name in enumerate(classes)]
    for one in annotations:
        one["category_id"] = classes.index(one.pop("name"))
    truth = dict(images=images, categories=categories, annotations=annotations)
    data = dataset(bccd, "VOCFolderDataset", tmp_path, "", classes)
    told = reported(bccd, data, found, lambda path: ids.get(path.stem))
    assert told == by_hand(sized_by_boxes(truth), found)
    counted = truth | dict(annotations=[one | dict(iscrowd=0) for one in annotations])
    assert sum(one["iscrowd"] for one in annotations) == 38
    assert told != by_hand(sized_by_boxes(counted), found)
