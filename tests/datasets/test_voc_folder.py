"""A folder of images with an XML beside each is read as plain ElementTree loops read it, and mistakes are named."""

import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config

import tiny
from det_distill.datasets.voc_folder import VOCFolderDataset

ROOT = Path(__file__).parents[2]
CARDS = ROOT.parent / "shared/data/cards"
CONFIG = ROOT / "configs/_base_/datasets/cards.py"
RANKS = ("nine", "ten", "jack", "queen", "king", "ace")
META = dict(classes=tiny.CLASSES)
SIZE = "<size><width>96</width><height>64</height><depth>3</depth></size>"
BOX = "<bndbox><xmin>11</xmin><ymin>13</ymin><xmax>51</xmax><ymax>43</ymax></bndbox>"


def thing(name: str = "a", box: str = BOX, **facts: int) -> str:
    return f"<object><name>{name}</name>{''.join(f'<{k}>{v}</{k}>' for k, v in facts.items())}{box}</object>"


def write(folder: Path, stem: str, *things: str, image: str | None = ".jpg", size: str = SIZE, named: str = "") -> Path:
    """An XML and, unless there is to be none, an image: `image` is its suffix, or its whole name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.xml"
    path.write_text(f"<annotation><filename>{named}</filename>{size}{''.join(things)}</annotation>")
    if image:
        pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
        name = stem + image if image.startswith(".") else image
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix.lower(), pixels)[1].tobytes())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images with all that may occur: other suffixes, empty, difficult, tiny and unknown objects, no size."""
    root = tmp_path / "mine"
    place = root / "train"
    write(place, "b.2", thing(), thing("c", difficult=1), image=".JPG")
    write(place, "a", thing("b", BOX.replace("51", "70.9")), image=".png")
    write(place, "d", thing("zebra"), thing("b", truncated=1, difficult=0), size="", image=".Jpeg")
    write(place, "c")
    write(place, "e", thing("a", BOX.replace("51", "14")), thing())
    write(place, "f", thing("c"), image="photo 7.PNG", named="photo 7.PNG")
    write(place, "g", thing("zebra"), image=".bmp")
    (place / "classes.txt").write_text("a\nb\nc\n")
    (place / ".hidden.xml").write_text("no XML")
    return root


def read(root: Path, **other) -> VOCFolderDataset:
    return DATASETS.build(
        dict(type="VOCFolderDataset", data_root=str(root), data_prefix=dict(img="train/"), metainfo=META) | other
    )


def stems(data: VOCFolderDataset) -> list[str]:
    return [data.get_data_info(i)["img_id"] for i in range(len(data))]


def seen(data: VOCFolderDataset) -> list[tuple]:
    infos = [data.get_data_info(i) for i in range(len(data))]
    classes = data.metainfo["classes"]
    return [
        (
            *(info["img_id"], Path(info["img_path"]).name, info["width"], info["height"]),
            *((classes[one["bbox_label"]], one["bbox"], one["ignore_flag"]) for one in info["instances"]),
        )
        for info in infos
    ]


def by_hand(folder: Path, classes: tuple[str, ...]) -> list[tuple]:
    """What the folder holds, by plain loops over files and elements; VOC counts pixels from 1."""
    found = []
    for path in sorted(folder.glob("[!.]*.xml"), key=lambda path: path.name):
        root = ET.parse(path).getroot()
        beside = [file for file in folder.iterdir() if file.stem == path.stem and file != path]
        image = beside[0] if beside else folder / root.find("filename").text
        height, width, _ = cv2.imread(str(image)).shape
        boxes = []
        for node in root.iter("object"):
            if node.find("name").text in classes:
                corners = {side.tag: int(float(side.text)) - 1 for side in node.find("bndbox")}
                box = [corners[side] for side in ("xmin", "ymin", "xmax", "ymax")]
                boxes.append((node.find("name").text, box, int(node.findtext("difficult", "0"))))
        found.append((path.stem, image.name, width, height, *boxes))
    return found


def test_it_reads_what_plain_loops_read_sorted_by_name(folder: Path) -> None:
    data = read(folder)
    assert seen(data) == by_hand(folder / "train", tiny.CLASSES)
    assert stems(data) == ["a", "b.2", "c", "d", "e", "f", "g"]
    assert data.get_data_info(5)["img_path"] == str(folder / "train" / "photo 7.PNG")


def test_the_suffix_of_an_xml_may_be_upper_case(folder: Path) -> None:
    expected = seen(read(folder))
    (folder / "train/c.xml").rename(folder / "train/c.XML")
    assert seen(read(folder)) == expected


def test_the_folder_may_be_the_root_itself(folder: Path) -> None:
    assert seen(read(folder / "train", data_prefix=dict(img=""))) == seen(read(folder))
    assert seen(VOCFolderDataset(data_root=str(folder / "train"), metainfo=META)) == seen(read(folder))


def test_the_images_are_loaded_and_boxes_follow_the_pipeline(folder: Path) -> None:
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(192, 128), keep_ratio=True),
        dict(type="PackDetInputs"),
    ]
    for (_, _, _, _, *boxes), packed in zip(seen(read(folder)), read(folder, pipeline=pipeline), strict=True):
        assert packed["inputs"].shape == (3, 128, 192)
        sample = packed["data_samples"]
        for flag, instances in ((0, sample.gt_instances), (1, sample.ignored_instances)):
            expected = [[2.0 * side for side in box] for _, box, ignored in boxes if ignored == flag]
            assert instances.bboxes.tensor.tolist() == expected


def test_where_several_images_share_a_stem_the_file_name_decides(folder: Path) -> None:
    write(folder / "train", "h", image=".png", named="h.JPG")
    write(folder / "train", "h", image=".JPG", named="h.JPG")
    assert seen(read(folder))[-1][1] == "h.JPG"
    write(folder / "train", "h", image=None)
    with pytest.raises(ValueError, match=r"no single one.*: h\.xml$"):
        read(folder)


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (dict(filter_empty_gt=True), "a b.2 d e f"),
        (dict(min_size=65), ""),
        (dict(min_size=64), "a b.2 c d e f g"),
        (None, "a b.2 c d e f g"),
    ],
    ids=str,
)
def test_filter_cfg_drops_what_xmldataset_drops_in_training_only(folder: Path, rule: dict | None, left: str) -> None:
    if left:
        assert stems(read(folder, filter_cfg=rule)) == left.split()
    else:
        assert read(folder, filter_cfg=rule, serialize_data=False).data_list == []
    assert stems(read(folder, filter_cfg=rule, test_mode=True)) == stems(read(folder))


def test_boxes_below_the_smallest_side_are_ignored(folder: Path) -> None:
    flags = [flag for _, _, flag in seen(read(folder, filter_cfg=dict(bbox_min_size=4)))[4][4:]]
    assert flags == [1, 0]
    assert [flag for _, _, flag in seen(read(folder))[4][4:]] == [0, 0]


def test_ann_file_chooses_and_orders(folder: Path) -> None:
    (folder / "list.txt").write_text("e\nb.2\n")
    assert stems(read(folder, ann_file="list.txt")) == ["e", "b.2"]
    (folder / "list.txt").write_text("e\nx\na\ny\n")
    with pytest.raises(ValueError, match=r"ann_file=.*list\.txt.*: x, y$"):
        read(folder, ann_file="list.txt")


@pytest.mark.parametrize("every", [2, 3, 7])
def test_train_and_val_share_the_folder_whatever_is_filtered(folder: Path, every: int) -> None:
    whole = stems(read(folder))
    val = stems(read(folder, split="val", val_every=every, test_mode=True))
    assert val == [stem for i, stem in enumerate(whole) if i % every == every - 1]
    assert stems(read(folder, split="train", val_every=every)) == [stem for stem in whole if stem not in val]
    kept = stems(read(folder, split="train", val_every=every, filter_cfg=dict(filter_empty_gt=True)))
    assert kept == [stem for stem in whole if stem not in val and stem not in ("c", "g")]


def test_indices_take_a_part_as_in_every_data_set(folder: Path) -> None:
    assert stems(read(folder, indices=2)) == ["a", "b.2"]
    assert stems(read(folder, indices=[4, 0])) == ["e", "a"]


# ---------------------------------------------------------------- mistakes


def test_a_folder_without_xml_says_what_is_there(folder: Path) -> None:
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"data_prefix\.img=.*mine.* holds no XML; found: 1 \.txt, train/$"):
        read(folder, data_prefix=dict(img=""))


def test_a_missing_folder_names_the_nearest(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data_prefix\.img: .*trian.*did you mean .*train\?"):
        read(folder, data_prefix=dict(img="trian"))


def test_xml_without_an_image_are_listed_the_first_few(folder: Path) -> None:
    for i in range(5):
        write(folder / "train", f"lost{i}", image=None, named="../train/a.png")
    with pytest.raises(ValueError, match=r": lost0\.xml, lost1\.xml, lost2\.xml and 2 more$"):
        read(folder)


@pytest.mark.parametrize("name", ["classes.txt", "../other.png", "a.xml"])
def test_only_an_image_of_the_folder_may_be_named(folder: Path, name: str) -> None:
    (folder / "other.png").touch()
    write(folder / "train", "lost", image=None, named=name)
    with pytest.raises(ValueError, match=r": lost\.xml$"):
        read(folder)


def test_broken_xml_names_file_and_line(folder: Path) -> None:
    (folder / "train/e.xml").write_text("<annotation>\n<size>\n</annotation>")
    with pytest.raises(ValueError, match=r"train/e\.xml is no sound XML: mismatched tag: line 3"):
        read(folder)


LEVELS = "".join(f'<!ENTITY e{i} "{10 * f"&e{i - 1};"}">' for i in range(1, 9))
BOMB = f'<!DOCTYPE x [<!ENTITY e0 "ha">{LEVELS}]><annotation><filename>&e8;</filename></annotation>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("text", [BOMB, '<!DOCTYPE annotation SYSTEM "voc.dtd"><annotation/>'], ids=["bomb", "plain"])
def test_a_doctype_is_refused_before_any_entity_is_known(folder: Path, text: str, encoding: str) -> None:
    (folder / "train/e.xml").write_text(text, encoding)
    with pytest.raises(ValueError, match=r"train/e\.xml is no sound XML: it has a DOCTYPE"):
        read(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(size="<size><width>wide</width><height>64</height></size>"),
        dict(size="<size><width>96</width></size>"),
        dict(box=""),
        dict(box=BOX.replace("11", "")),
        dict(box=BOX.replace("ymax", "yMax")),
    ],
    ids=str,
)
def test_what_is_missing_from_a_sound_xml_names_the_file(folder: Path, wrong: dict[str, str]) -> None:
    write(folder / "train", "e", thing(box=wrong.get("box", BOX)), size=wrong.get("size", SIZE))
    with pytest.raises(ValueError, match=r"train/e\.xml: .*expected whole numbers in size\.width.*bndbox\.xmin"):
        read(folder)


@pytest.mark.parametrize("metainfo", [None, dict(), dict(classes=()), dict(classes="king")], ids=str)
def test_classes_must_be_named(folder: Path, metainfo: dict | None) -> None:
    with pytest.raises(ValueError, match=r"metainfo\.classes=.*expected class names"):
        read(folder, metainfo=metainfo)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(split="vla"), r"split='vla' is unknown, did you mean 'val'\?; known: train, val"),
        (dict(val_every=1), "val_every is 1, expected at least 2"),
        (dict(split="val", val_every=8), "val_every=8 leaves no val among 7 XML"),
        (dict(data_prefix=dict(image="train/")), r"data_prefix\.image is unknown, did you mean 'img'\?; known: img"),
    ],
    ids=["split", "val_every", "few", "data_prefix"],
)
def test_wrong_settings_are_named(folder: Path, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(folder, **wrong)


# ---------------------------------------------------------------- the cards, and their configs


@pytest.fixture
def cards() -> Config:
    if not CARDS.is_dir():
        pytest.skip("no ../shared/data/cards")
    config = Config.fromfile(CONFIG)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(CARDS)
    return config


@pytest.mark.shared_data
@pytest.mark.parametrize(("split", "photos"), [("train", 296), ("test", 67)])
def test_the_cards_are_what_plain_loops_and_their_own_table_say(cards: Config, split: str, photos: int) -> None:
    data = read(CARDS, data_prefix=dict(img=split), metainfo=dict(classes=RANKS))
    found = seen(data)
    assert len(found) == photos
    assert found == by_hand(CARDS / split, RANKS)
    table = (CARDS / f"{split}_labels.csv").read_text().splitlines()[1:]
    told = sorted((row[3], *map(int, row[4:])) for row in (line.split(",") for line in table))
    assert told == sorted((name, *(side + 1 for side in box)) for one in found for name, box, _ in one[4:])


@pytest.mark.shared_data
def test_the_config_cuts_val_from_train_and_feeds_both_orientations(cards: Config) -> None:
    train, val, test = (
        DATASETS.build(loader.dataset)
        for loader in (cards.train_dataloader, cards.val_dataloader, cards.test_dataloader)
    )
    assert [len(data) for data in (train, val, test)] == [237, 59, 67]
    assert not set(stems(train)) & set(stems(val))
    assert sorted(stems(train) + stems(val)) == sorted(path.stem for path in (CARDS / "train").glob("*.xml"))
    sizes = {train[i]["inputs"].shape[1:] for i in range(0, len(train), 9)}
    assert sizes == {(256, 192), (144, 256)}
    for data in (train, val):
        assert {data.get_data_info(i)["instances"][0]["bbox_label"] for i in range(len(data))} == set(range(6))


@pytest.mark.shared_data
def test_a_batch_of_cards_trains_a_detector(cards: Config) -> None:
    data = DATASETS.build(cards.train_dataloader.dataset)
    model, total = tiny.trained_step(data, classes=6)
    assert total.isfinite()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.shared_data
@pytest.mark.parametrize("shift", [0, 1000])
def test_coco_metric_judges_by_the_truth_in_the_samples(cards: Config, shift: int) -> None:
    data = DATASETS.build(cards.val_dataloader.dataset)
    metric = METRICS.build(cards.val_evaluator)
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        sample = data[i]["data_samples"]
        truth = data.get_data_info(i)["instances"]
        sample.pred_instances = sample.gt_instances.new(
            bboxes=sample.gt_instances.bboxes.tensor.new_tensor([one["bbox"] for one in truth]) + shift,
            labels=sample.gt_instances.labels,
            scores=sample.gt_instances.labels.new_ones(len(truth)).float(),
        )
        metric.process({}, [sample.to_dict()])
    assert metric.evaluate(len(data))["coco/bbox_mAP"] == (0 if shift else 1)


@pytest.mark.parametrize(
    ("path", "classes", "side"),
    [
        ("cards/faster-rcnn_r18-half_fpn64_teacher.py", 6, (256, 192)),
        ("cards/faster-rcnn_r18-half_fpn64.py", 6, (256, 192)),
        ("cards/faster-rcnn_r18-half_fpn64_half-res.py", 6, (128, 96)),
        ("digits/faster-rcnn_r18-quarter_fpn32.py", 10, (160, 160)),
        ("digits/faster-rcnn_r18-quarter_fpn32_half-res.py", 10, (80, 80)),
    ],
)
def test_the_configs_feed_one_size_everywhere_and_build(path: str, classes: int, side: tuple[int, int]) -> None:
    cfg = Config.fromfile(ROOT / "configs" / path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        (resize,) = (step for step in loader.dataset.pipeline if "Resize" in step.type)
        scales = resize.get("scales", [resize.get("scale")])
        assert scales[len(scales) // 2] == side
        assert len(loader.dataset.metainfo.classes) == classes
    assert MODELS.build(cfg.model).roi_head.bbox_head.num_classes == classes


@pytest.mark.parametrize("path", ["cards/faster-rcnn_r18-half_fpn64", "digits/faster-rcnn_r18-quarter_fpn32"])
def test_half_resolution_changes_the_scale_and_nothing_else(path: str) -> None:
    whole, half = (Config.fromfile(ROOT / f"configs/{path}{end}.py").to_dict() for end in ("", "_half-res"))
    for cfg in (whole, half):
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            (resize,) = (step for step in cfg[loader]["dataset"]["pipeline"] if step["type"] == "Resize")
            cfg[loader]["dataset"]["scale"] = resize.pop("scale")
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        large, small = (cfg[loader]["dataset"].pop("scale") for cfg in (whole, half))
        assert large == tuple(2 * side for side in small)
        assert whole[loader] == half[loader]
    for key in ("model", "train_cfg", "param_scheduler", "optim_wrapper", "val_evaluator", "test_evaluator"):
        assert whole[key] == half[key]
