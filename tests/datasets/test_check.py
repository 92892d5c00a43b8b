"""Every planted fault is found, in every format, and no other; a clean set has none."""

import io
import json
import os
import runpy
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mmcv
import pytest
from PIL import Image

from det_distill.datasets.check import FAULTS, Report, check
from det_distill.datasets.splits import configured, named

ROOT = Path(__file__).parents[2]
BCCD = ROOT.parent / "shared/data/bccd"
NAME = dict(voc="dog", coco="dog", kitti="Cyclist", widerface="face", digits="7")
LISTS = dict(
    voc=(
        "VOC2007/ImageSets/Main/trainval.txt",
        "VOC2012/ImageSets/Main/trainval.txt",
        "VOC2007/ImageSets/Main/test.txt",
    ),
    digits=("ImageSets/Main/train.txt", "ImageSets/Main/val.txt"),
    kitti=("ImageSets/train.txt", "ImageSets/val.txt"),
    widerface=("train.txt", "val.txt"),
)
PLACES = dict(voc=("VOC2007", "VOC2012"), digits=("", ""), widerface=("WIDER_train", "WIDER_val"))
Box = list  # [class or None for the usual one, x1, y1, x2, y2]


def picture(grey: int, kind: str = "jpeg", **save) -> bytes:
    """64 x 48 with enough detail that its file is longer than its head."""
    image = Image.effect_mandelbrot((64, 48), (-2 + grey / 100, -1, 1, 1), 30)
    buffer = io.BytesIO()
    image.save(buffer, kind, **save)
    return buffer.getvalue()


@dataclass
class Photo:
    """An image as it will be written; None for no file."""

    content: bytes | None
    boxes: list[Box] = field(default_factory=list)
    annotation: str = "fine"  # or "missing" or "broken"


def clean() -> list[list[Photo]]:
    """Train, with an image without boxes, and val; boxes reach the borders."""
    train = [
        Photo(picture(1), [[None, 0, 0, 64, 48], [None, 5, 6, 20, 30]]),
        Photo(picture(2)),
        Photo(picture(3), [[None, 2, 3, 8, 9]]),
    ]
    return [train, [Photo(picture(4), [[None, 5, 6, 20, 30]])]]


def write(kind: str, root: Path, splits: list[list[Photo]]) -> Path:
    """The photos as a data set of that kind in `root`, named s0n0, s0n1, ..."""
    for k, photos in enumerate(splits):
        names = [f"s{k}n{i}" for i in range(len(photos))]
        if kind == "coco":
            write_coco(root, ("train2017", "val2017")[k], dict(zip(names, photos, strict=True)))
            continue
        for name, photo in zip(names, photos, strict=True):
            if kind == "kitti":
                image, note = root / f"training/image_2/{name}.png", root / f"training/label_2/{name}.txt"
                text = "".join(
                    f"{what or NAME[kind]} 0.00 0 -10 {x1} {y1} {x2} {y2} -1 -1 -1 -1000 -1000 -1000 -10\n"
                    for what, x1, y1, x2, y2 in photo.boxes
                )
            else:
                place = root / PLACES[kind][k]
                image = place / ("0--Parade" if kind == "widerface" else "JPEGImages") / f"{name}.jpg"
                note, text = place / f"Annotations/{name}.xml", xml(kind, photo.boxes)
            put(image, photo.content)
            put(note, {"fine": text, "broken": "<annotation> Car", "missing": None}[photo.annotation])
        put(root / LISTS[kind][k], "".join(f"{name}\n" for name in names))
    for other in LISTS.get(kind, ())[2:]:
        put(root / other, "")
    return root


def put(path: Path, content: str | bytes | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def xml(kind: str, boxes: list[Box]) -> str:
    objects = "".join(
        f"<object><name>{what or NAME[kind]}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for what, x1, y1, x2, y2 in boxes
    )
    return f"<annotation><folder>0--Parade</folder>{objects}</annotation>"


def write_coco(root: Path, year: str, photos: dict[str, Photo]) -> None:
    categories = [dict(id=18, name="dog"), dict(id=99, name="unicorn")]
    ids = {category["name"]: category["id"] for category in categories}
    images, annotations = [], []
    for name, photo in photos.items():
        put(root / year / f"{name}.jpg", photo.content)
        images.append(dict(id=name, file_name=f"{name}.jpg", width=64, height=48))
        for what, x1, y1, x2, y2 in photo.boxes:
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(dict(id=1, image_id=name, category_id=ids[what or "dog"], bbox=box))
        if photo.annotation != "fine":  # of one that no image has
            annotations.append(dict(id=1, image_id="nobody", category_id=18, bbox=[1, 2, 3, 4]))
    content = dict(images=images, annotations=annotations, categories=categories)
    put(root / f"annotations/instances_{year}.json", json.dumps(content))


def counts(report: Report) -> dict[str, int]:
    return {fault: len(culprits) for fault, culprits in report.faults.items() if culprits}


def alter(change: Callable[[Photo], None], split: int = 0, index: int = 0) -> Callable[[list[list[Photo]]], None]:
    return lambda splits: change(splits[split][index])


def content(value: bytes | None) -> Callable[[list[list[Photo]]], None]:
    return alter(lambda photo: setattr(photo, "content", value))


def more(*box: object) -> Callable[[list[list[Photo]]], None]:
    return alter(lambda photo: photo.boxes.append(list(box)))


def annotation(state: str) -> Callable[[list[list[Photo]]], None]:
    return alter(lambda photo: setattr(photo, "annotation", state))


PLANTED = [
    ("missing image", content(None), "s0n0"),
    ("truncated image", content(picture(1)[:-200]), "s0n0"),
    ("truncated image", content(picture(1, "png")[:-200]), "s0n0"),
    ("unreadable image", content(b"this is no image"), "s0n0"),
    ("unreadable image", content(b""), "s0n0"),
    ("missing or unreadable annotation", annotation("missing"), ""),
    ("missing or unreadable annotation", annotation("broken"), ""),
    ("box outside the image", more(None, 30, 10, 66, 20), "(30, 10, 66, 20) in 64x48"),
    ("box outside the image", more(None, 30, 10, 40, 49), "(30, 10, 40, 49) in 64x48"),
    ("box outside the image", more(None, -2, 10, 40, 40), "(-2, 10, 40, 40) in 64x48"),
    ("box outside the image", more(None, 2, -1, 40, 40), "(2, -1, 40, 40) in 64x48"),
    ("box of zero area", more(None, 30, 10, 30, 20), "(30, 10, 30, 20)"),
    ("box of zero area", more(None, 30, 20, 40, 20), "(30, 20, 40, 20)"),
    ("box of zero area", more(None, 40, 10, 30, 20), "(40, 10, 30, 20)"),
    ("unknown class", more("unicorn", 30, 10, 40, 20), "unicorn (30, 10, 40, 20)"),
    ("duplicate image", alter(lambda photo: setattr(photo, "content", picture(4))), "s0n0"),
    ("duplicate box", more(None, 5, 6, 20, 30), "(5, 6, 20, 30), 2 times"),
]


@pytest.mark.parametrize("kind", NAME)
def test_a_clean_set_has_no_fault(tmp_path: Path, kind: str) -> None:
    report = check(named(kind, write(kind, tmp_path, clean())))
    assert counts(report) == {}
    assert report.clean
    assert (report.images, report.boxes) == (4, 4)
    assert [Path(name).stem for name in report.empty] == ["s0n1"]


@pytest.mark.parametrize("kind", NAME)
@pytest.mark.parametrize(("fault", "plant", "told"), PLANTED, ids=[f"{fault}-{told}" for fault, _, told in PLANTED])
def test_a_planted_fault_is_found_and_no_other(tmp_path: Path, kind: str, fault: str, plant, told: str) -> None:
    splits = clean()
    plant(splits)
    report = check(named(kind, write(kind, tmp_path, splits)))
    assert counts(report) == {fault: 1}
    assert not report.clean
    assert told in report.faults[fault][0]


def test_every_fault_is_planted() -> None:
    assert {fault for fault, *_ in PLANTED} | {"size other than annotated"} == set(FAULTS)


def test_the_same_bytes_in_both_splits_are_a_duplicate_that_names_both(tmp_path: Path) -> None:
    splits = clean()
    splits[1][0].content = splits[0][0].content
    report = check(named("kitti", write("kitti", tmp_path, splits)))
    assert report.faults["duplicate image"] == ["image_2/s1n0.png = image_2/s0n0.png"]


def test_an_image_listed_twice_is_a_duplicate(tmp_path: Path) -> None:
    root = write("digits", tmp_path, clean())
    put(root / "ImageSets/Main/val.txt", "s1n0\ns1n0\n")
    assert counts(check(named("digits", root))) == {"duplicate image": 1}


def test_an_image_on_its_side_is_measured_as_mmdetection_turns_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    splits = clean()
    splits[0][0] = Photo(picture(1, exif=exif), [[None, 0, 0, 48, 64]])
    root = write("digits", tmp_path, splits)
    assert mmcv.imread(root / "JPEGImages/s0n0.jpg").shape == (64, 48, 3)
    assert check(named("digits", root)).clean


def test_an_xml_without_a_corner_says_which(tmp_path: Path) -> None:
    root = write("digits", tmp_path, clean())
    path = root / "Annotations/s0n0.xml"
    put(path, path.read_text().replace("<ymax>48</ymax>", ""))
    report = check(named("digits", root))
    assert report.faults["missing or unreadable annotation"] == ["s0n0.xml: an object has no bndbox/ymax"]


def test_the_table_names_the_first_few_culprits(tmp_path: Path, monkeypatch, capsys) -> None:
    splits = clean()
    splits[0][0].boxes = [[None, 10 + i, 10, 10 + i, 20] for i in range(9)]
    write("kitti", tmp_path, splits)
    monkeypatch.setenv("COLUMNS", "120")
    assert tool(monkeypatch, "kitti", "--root", tmp_path, "--check") == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "box of zero area" in line or "(1" in line]
    assert "│ 9     │ image_2/s0n0.png: Cyclist (10, 10, 10, 20) │" in lines[0]
    assert len(lines) == 5


def tool(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    path = ROOT / "tools/prepare_data.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(("kind", "nearest"), [("coco", "json"), ("voc", "trainval.txt"), ("kitti", "train.txt")])
def test_a_set_that_is_not_there_is_one_clear_error(monkeypatch, capsys, tmp_path: Path, kind, nearest) -> None:
    assert tool(monkeypatch, kind, "--root", tmp_path / "none", "--check") == 2
    told = capsys.readouterr().err
    assert nearest in told
    assert "does not exist" in told


def test_a_json_that_is_not_cocos_is_one_clear_error(tmp_path: Path) -> None:
    root = write("coco", tmp_path, clean())
    put(root / "annotations/instances_val2017.json", '{"images": []}')
    with pytest.raises(ValueError, match=r"instances_val2017.json is not COCO's json: KeyError 'categories'"):
        check(named("coco", root))


CONFIG = """
data = dict(type="XMLDataset", data_root={root!r}, ann_file="ImageSets/Main/train.txt",
            data_prefix=dict(sub_data_root=""), metainfo=dict(classes=("7",)), pipeline=[dict(type="Absent")])
both = dict(type="ConcatDataset", datasets=[data])
train_dataloader = dict(dataset=dict(type="RepeatDataset", times=3, dataset=both))
val_dataloader = dict(dataset=dict(data, ann_file="ImageSets/Main/val.txt"))
test_dataloader = val_dataloader
"""


def test_a_config_names_its_data_sets_and_each_is_looked_at_once(tmp_path: Path, monkeypatch) -> None:
    splits = clean()
    splits[0][0].boxes.append(["unicorn", 1, 2, 3, 4])
    root = write("digits", tmp_path / "set", splits)
    put(tmp_path / "config.py", CONFIG.format(root=str(root)))
    report = check(configured(tmp_path / "config.py"))
    assert (report.images, counts(report)) == (4, {"unknown class": 1})
    assert tool(monkeypatch, "--check", "--config", tmp_path / "config.py") == 1
    put(root / "Annotations/s0n0.xml", xml("digits", [[None, 1, 2, 3, 4]]))
    assert tool(monkeypatch, "--check", "--config", tmp_path / "config.py") == 0


def test_a_folder_of_xml_and_images_is_checked_by_its_config(tmp_path: Path) -> None:
    root = write("digits", tmp_path / "set", clean())
    for path in [*(root / "JPEGImages").iterdir(), *(root / "Annotations").iterdir()]:
        os.replace(path, root / path.name)
    put(root / "s0n0.xml", xml("digits", [["unicorn", 1, 2, 3, 3]]))
    data = f"dict(type='VOCFolderDataset', data_root={str(root)!r}, metainfo=dict(classes=('7',)))"
    put(tmp_path / "config.py", f"train_dataloader = dict(dataset={data})")
    report = check(configured(tmp_path / "config.py"))
    assert (report.images, counts(report)) == (4, {"unknown class": 1})


@pytest.mark.parametrize("labels", ["dict()", "dict(label=None)"], ids=["labelled", "without labels"])
def test_both_sides_of_a_cut_are_looked_at(tmp_path: Path, labels: str) -> None:
    train, val = clean()
    root = write("kitti", tmp_path / "set", [train + val, []])
    data = f"dict(type='KittiDataset', data_root={str(root)!r}, data_prefix={labels}, val_every=4"
    put(
        tmp_path / "config.py",
        f"train_dataloader = dict(dataset={data}, split='train'))\n"
        f"val_dataloader = test_dataloader = dict(dataset={data}, split='val'))\n",
    )
    report = check(configured(tmp_path / "config.py"))
    assert report.clean
    assert (report.images, report.boxes) == (4, 4 if labels == "dict()" else 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model = dict()", "has no train_dataloader"),
        ("train_dataloader = dict(dataset=dict(type='CocoDatasett'))", "did you mean 'CocoDataset'"),
        (
            "train_dataloader = dict(dataset=dict(type='CocoDataset', ann_file='a', data_prefix=dict(img='b')))",
            "annotations a",
        ),
        (
            "train_dataloader = dict(dataset=dict(type='BaseDetDataset', metainfo=dict(classes=('a',))))",
            "not known here",
        ),
    ],
    ids=["no data", "unknown", "nothing there", "another kind"],
)
def test_a_config_that_cannot_be_checked_says_why(tmp_path: Path, text: str, told: str) -> None:
    put(tmp_path / "config.py", text)
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        check(configured(tmp_path / "config.py"))
    with pytest.raises(FileNotFoundError, match=r"did you mean .*config\.py"):
        configured(tmp_path / "confg.py")


@pytest.mark.shared_data
@pytest.mark.skipif(not BCCD.is_dir(), reason=f"{BCCD} is not here")
def test_in_the_blood_cells_it_finds_the_two_boxes_without_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report = check(configured(ROOT / "configs/_base_/datasets/bccd.py"))
    flat = {
        path.stem
        for path in (BCCD / "Annotations").glob("*.xml")
        for box in ET.parse(path).iter("bndbox")
        if box.find("xmin").text == box.find("xmax").text or box.find("ymin").text == box.find("ymax").text
    }
    found = {Path(line.partition(":")[0]).stem for line in report.faults["box of zero area"]}
    assert found == flat == {"BloodImage_00338", "BloodImage_00343"}
    assert counts(report) == {"box of zero area": 2}
    assert (report.images, report.boxes) == (364, 4888)
