"""Annotation files of strangers lead to nothing outside the data set, and broken files are told by name, at once."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from PIL import Image
from rich.console import Console

import det_distill.plugins  # noqa: F401
from det_distill.datasets.check import Report, check
from det_distill.datasets.inside import demand_inside, inside, printable
from det_distill.datasets.kitti_labels import read_labels
from det_distill.datasets.pictures import decoded_size, size_of
from det_distill.datasets.splits import named
from det_distill.datasets.widerface import read_faces, write_annotations
from det_distill.datasets.writers import already_made

OUTSIDE = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "..\\secret",
    "C:\\secret",
    "http://x/secret",
    "file:///secret",
]
NO_NAME = ["", "  ", ".", "a\0b", "\ud800", "x" * 256, None, 7, ["a.jpg"]]
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
SIZE = "<size><width>64</width><height>48</height></size>"


def image(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def voc(root: Path, xml: str | bytes, names: str | bytes = "e\n", size: tuple[int, int] = (64, 48)) -> Path:
    """A set of one image in the digits' layout."""
    image(root / "JPEGImages/e.jpg", size)
    text(root / "Annotations/e.xml", xml)
    text(root / "ImageSets/Main/train.txt", names)
    text(root / "ImageSets/Main/val.txt", "")
    return root


def coco(root: Path, *images: dict, **other: object) -> Path:
    image(root / "train2017/e.jpg")
    image(root.parent / "secret.jpg")
    content = dict(images=list(images), annotations=[], categories=[dict(id=18, name="dog")]) | other
    text(root / "annotations/instances_train2017.json", json.dumps(content))
    text(root / "annotations/instances_val2017.json", json.dumps(content | dict(images=[], annotations=[])))
    return root


def culprits(report: Report) -> dict[str, list[str]]:
    return {fault: names for fault, names in report.faults.items() if names}


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"leads out of data"):
        inside(Path("data"), name)


@pytest.mark.parametrize("name", NO_NAME, ids=ascii)
def test_what_can_name_no_file_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="is no file name"):
        inside(Path("data"), name)


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "0--Parade/a b.jpg", "..a.jpg", "é.jpg", "a:b.jpg", "./a.jpg"])
def test_every_other_name_is_below_the_folder(name: str) -> None:
    assert inside(Path("data"), name) == Path("data") / name


@pytest.mark.parametrize("name", OUTSIDE)
def test_check_names_a_coco_image_outside_and_does_not_look_at_it(tmp_path: Path, name: str) -> None:
    root = coco(tmp_path / "data", dict(id=1, file_name="e.jpg"), dict(id=2, file_name=f"{name}.jpg"))
    report = check(named("coco", root))
    ((fault, (told,)),) = culprits(report).items()
    assert fault == "missing or unreadable annotation"
    assert told.startswith("image 2: file_name '")
    assert "leads out" in told
    assert report.images == 1


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["digits", "kitti", "widerface"])
def test_a_list_with_a_name_outside_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    lists = dict(digits="ImageSets/Main/train.txt", kitti="ImageSets/train.txt", widerface="train.txt")
    text(tmp_path / lists[kind], f"e\n{name}\n")
    with pytest.raises(ValueError, match=r"train\.txt: .*leads out"):
        named(kind, tmp_path)


def test_check_names_a_folder_of_wider_face_outside(tmp_path: Path) -> None:
    image(tmp_path / "secret/e.jpg")
    root = tmp_path / "data"
    text(root / "train.txt", "e\n")
    text(root / "val.txt", "")
    text(root / "WIDER_train/Annotations/e.xml", "<annotation><folder>../../secret</folder></annotation>")
    report = check(named("widerface", root))
    ((_, (told,)),) = culprits(report).items()
    assert told.startswith("e.xml: '../../secret/e.jpg' leads out of ")
    assert report.images == 0


def test_face_annotations_are_not_made_of_images_outside(tmp_path: Path) -> None:
    image(tmp_path / "secret.jpg")
    lines = text(tmp_path / "faces.txt", "../secret.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    (tmp_path / "set").mkdir()
    with pytest.raises(ValueError, match=r"faces\.txt: '\.\./secret\.jpg' leads out"):
        write_annotations(lines, tmp_path / "set")


NAMES = [("e.jpg", True), ("a/e.jpg", True), *((name, False) for name in OUTSIDE if "\\" not in name)]


@pytest.mark.parametrize(("name", "fine"), NAMES)
def test_a_built_stock_data_set_is_looked_through(tmp_path: Path, name: str, fine: bool) -> None:
    root = coco(tmp_path / "data", dict(id=1, file_name=name, width=64, height=48))
    data = DATASETS.build(
        dict(
            type="CocoDataset",
            data_root=str(root),
            ann_file="annotations/instances_train2017.json",
            data_prefix=dict(img="train2017/"),
            pipeline=[],
        )
    )
    if fine:
        demand_inside(data)
    else:
        with pytest.raises(ValueError, match=r"instances_train2017\.json: image .*leads out of .*data"):
            demand_inside(data)


def test_a_link_is_followed_but_a_pipe_or_a_device_is_no_image(tmp_path: Path) -> None:
    root = voc(tmp_path / "data", "<annotation/>", "e\nlink\npipe\ndevice\n")
    (root / "JPEGImages/link.jpg").symlink_to(image(tmp_path / "elsewhere.jpg", (40, 30)))
    os.mkfifo(root / "JPEGImages/pipe.jpg")
    (root / "JPEGImages/device.jpg").symlink_to("/dev/zero")
    for name in ("link", "pipe", "device"):
        text(root / f"Annotations/{name}.xml", "<annotation/>")
    assert culprits(check(named("digits", root))) == {
        "unreadable image": ["JPEGImages/pipe.jpg", "JPEGImages/device.jpg"]
    }


# ---------------------------------------------------------------- annotations

BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("kind", ["digits", "widerface"])
def test_check_reads_no_doctype(tmp_path: Path, kind: str, encoding: str) -> None:
    place = dict(digits="", widerface="WIDER_train")[kind]
    text(tmp_path / "train.txt", "e\n")
    text(tmp_path / "val.txt", "")
    voc(tmp_path, "")
    text(tmp_path / place / "Annotations/e.xml", f'<?xml version="1.0"?>{BOMB}'.encode(encoding))
    ((_, (told,)),) = culprits(check(named(kind, tmp_path))).items()
    assert "e.xml is no sound XML: it has a DOCTYPE" in told


@pytest.mark.parametrize("turned", [False, True])
def test_a_size_other_than_annotated_is_a_fault_and_a_turned_one_is_none(tmp_path: Path, turned: bool) -> None:
    root = voc(tmp_path / "voc", f"<annotation>{SIZE}</annotation>", size=(48, 64) if turned else (40, 30))
    fault = {} if turned else {"size other than annotated": ["JPEGImages/e.jpg: 64x48, found 40x30"]}
    assert culprits(check(named("digits", root))) == fault
    root = coco(tmp_path / "coco", dict(id=1, file_name="e.jpg", width=64, height=47))
    told = {"size other than annotated": ["train2017/e.jpg: 64x47, found 64x48"]}
    assert culprits(check(named("coco", root))) == told


def test_names_in_the_table_are_neither_markup_nor_orders_to_the_terminal(tmp_path: Path) -> None:
    name = "[/]\x1b[2J\ud800[red]"
    box = dict(id=1, image_id=1, category_id=7, bbox=[1, 2, 3, 4])
    root = coco(tmp_path / "data", dict(id=1, file_name="e.jpg"), annotations=[box], categories=[dict(id=7, name=name)])
    out = io.StringIO()
    Console(file=out, width=200).print(check(named("coco", root)).table())
    assert r"[/]\x1b[2J\ud800[red] (1, 2, 4, 6)" in out.getvalue()


def test_printable_leaves_what_can_be_printed() -> None:
    assert printable("é [a] \n\x1b\ud800") == r"é [a] \n\x1b\ud800"


@pytest.mark.parametrize(
    "content",
    [
        b'{"images": [], "annotations": [], "categories": [\xff]}',
        b"[" * 100000,
        b"[]",
        b"7",
        b'{"images": [{"id": 1, "file_name": "e","width": Infinity,"height":1}],"annotations": [], "categories": []}',
        b'{"images": [{"id": []}], "annotations": [], "categories": []}',
        b'{"images": [], "annotations": [{"bbox": [1, 1, 1, 1' + b"0" * 400 + b']}], "categories": []}',
    ],
    ids=["no utf-8", "deep", "list", "number", "infinite", "unhashable", "huge"],
)
def test_what_is_no_cocos_json_is_one_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    root = coco(tmp_path / "data")
    text(root / "annotations/instances_train2017.json", content)
    with pytest.raises(ValueError, match=r"instances_train2017\.json is not COCO's json") as caught:
        check(named("coco", root))
    assert type(caught.value) is ValueError


def test_images_of_one_id_are_told(tmp_path: Path) -> None:
    root = coco(tmp_path / "data", dict(id=1, file_name="e.jpg"), dict(id=1, file_name="f.jpg"))
    image(root / "train2017/f.jpg", (32, 32))
    told = {"missing or unreadable annotation": ["1 images have the id of another one"]}
    assert culprits(check(named("coco", root))) == told


def test_text_that_is_no_utf_8_names_its_file(tmp_path: Path) -> None:
    path = text(tmp_path / "000001.txt", b"Car \xe9")
    with pytest.raises(ValueError, match=r"000001\.txt is no UTF-8 text: byte 4 is 0xe9"):
        read_labels(path)
    with pytest.raises(ValueError, match=r"train\.txt is no UTF-8 text"):
        named("digits", voc(tmp_path / "voc", "<annotation/>", b"\xff\xfee"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a.jpg\n", 2),
        ("a.jpg\nmany\n", 2),
        ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", 4),
        ("a.jpg\n1\n1 2 3 4\n", 3),
        ("a.jpg\n1\n1 2 3 x 0 0 0 0 0 0\n", 3),
        ("a.jpg\n0\n0 0 0 0 0 0 0 0 0 0\nb.jpg\n1\n", 6),
    ],
)
def test_a_broken_list_of_faces_says_the_line(tmp_path: Path, content: str, line: int) -> None:
    path = text(tmp_path / "faces.txt", content)
    with pytest.raises(ValueError, match=rf"faces\.txt, line {line}: "):
        list(read_faces(path))


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100000, b"{"])
def test_settings_that_cannot_be_read_say_what_to_do(tmp_path: Path, content: bytes) -> None:
    text(tmp_path / "set/digits.json", content)
    with pytest.raises(ValueError, match=r"digits\.json cannot be read .*--force"):
        already_made(tmp_path / "set", dict(name="digits"))


# ---------------------------------------------------------------- a folder of XML


def folder(place: Path, xml: str, jpeg: bytes | None = None) -> dict[str, object]:
    text(place / "e.xml", xml)
    image(place / "e.jpg") if jpeg is None else text(place / "e.jpg", jpeg)
    return dict(type="VOCFolderDataset", data_root=str(place), metainfo=dict(classes=("a",)), pipeline=[])


@pytest.mark.parametrize("side", ["inf", "1e999", "nan"])
def test_a_side_that_is_no_pixel_names_the_xml(tmp_path: Path, side: str) -> None:
    box = BOX.replace("30", side)
    with pytest.raises(ValueError, match=r"e\.xml: .*expected whole numbers"):
        DATASETS.build(folder(tmp_path, f"<annotation>{SIZE}<object><name>a</name>{box}</object></annotation>"))


@pytest.mark.parametrize("jpeg", [b"", b"no image"])
def test_an_image_that_cannot_say_its_size_names_the_xml(tmp_path: Path, jpeg: bytes) -> None:
    with pytest.raises(ValueError, match=r"e\.xml: "):
        DATASETS.build(folder(tmp_path, "<annotation/>", jpeg))


def test_a_list_of_stems_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    config = folder(tmp_path, f"<annotation>{SIZE}</annotation>")
    text(tmp_path / "stems.txt", b"\xff")
    with pytest.raises(ValueError, match=r"stems\.txt is no UTF-8 text"):
        DATASETS.build(config | dict(ann_file="stems.txt"))


# ---------------------------------------------------------------- images


def gigantic(side: int) -> bytes:
    """A PNG of about 80 bytes that declares side x side pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("content", [gigantic(20000), gigantic(2**31 - 1), b"", b"GIF89a"], ids=len)
def test_no_memory_is_given_to_what_is_no_sound_image(tmp_path: Path, content: bytes) -> None:
    path = text(tmp_path / "e.png", content)
    with pytest.raises(ValueError, match=r"e\.png is no sound image: \S+"):
        size_of(path)
    with pytest.raises(ValueError, match=r"\S+"):
        decoded_size(content)


def test_a_frame_of_kitti_that_is_no_image_is_named(tmp_path: Path) -> None:
    text(tmp_path / "training/label_2/000001.txt", "")
    text(tmp_path / "training/image_2/000001.png", gigantic(20000))
    with pytest.raises(ValueError, match=r"000001\.png is no sound image: .*exceeds limit"):
        DATASETS.build(dict(type="KittiDataset", data_root=str(tmp_path), pipeline=[]))
