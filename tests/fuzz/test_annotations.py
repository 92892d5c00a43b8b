"""Whatever an annotation file or a list holds, it is read or refused by its name, and leads to no file outside."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.hostile import JSON, altered, answered, cases, damaged
from hypothesis import example, given
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from PIL import Image
from rich.console import Console

import det_distill.plugins  # noqa: F401
from det_distill.datasets import sound_xml
from det_distill.datasets.check import check
from det_distill.datasets.kitti_labels import parse_labels, read_labels
from det_distill.datasets.splits import named
from det_distill.datasets.widerface import write_annotations

XML = b"""<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>0--Parade</folder><filename>e.jpg</filename>
<size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>7</name><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>13</ymin><xmax>51.5</xmax><ymax>43</ymax></bndbox></object></annotation>"""
KITTI = b"Car 0.00 0 -10 1.00 2.00 30.00 40.00 -1 -1 -1 -1000 -1000 -1000 -10\n" * 2
FACES = b"0--Parade/e.jpg\n1\n1 2 30 40 0 0 0 0 0 0 \n0--Parade/e.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n"
COCO = dict(
    images=[dict(id=1, file_name="e.jpg", width=64, height=48), dict(id=2, file_name="e.jpg")],
    annotations=[
        dict(id=1, image_id=1, category_id=18, bbox=[1, 2, 30, 40], area=1200, iscrowd=0),
        dict(id=2, image_id=1, category_id=18, bbox=[1.5, 2, 3, 4], area=12, iscrowd=1),
    ],
    categories=[dict(id=18, name="dog")],
)
NAMES = (
    "../secret",
    "../../secret",
    "/etc/passwd",
    "a/../../secret",
    "C:\\x",
    "http://x/y",
    "e",
    "no",
    "x" * 300,
    "\0",
    "é",
    "[/]",
    "",
)
ENCODINGS = ("utf-8", "utf-16", "latin-1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layout in one folder, one image each; beside it a secret that nothing in it may lead to."""
    root = tmp_path_factory.mktemp("fuzz") / "data"
    for place in ("JPEGImages", "0--Parade", "training/image_2", "train2017", "val2017", "WIDER_train/0--Parade"):
        (root / place).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(root / place / "e.jpg")
    for name in ("ImageSets/Main/train.txt", "ImageSets/Main/val.txt", "ImageSets/train.txt", "train.txt", "val.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("e\n")
    for place in ("Annotations", "training/label_2", "annotations", "WIDER_train/Annotations", "WIDER_val/Annotations"):
        (root / place).mkdir(parents=True)
    (root / "ImageSets/Main/val.txt").write_text("")
    (root / "ImageSets/val.txt").write_text("")
    (root / "val.txt").write_text("")
    (root / "annotations/instances_val2017.json").write_text(json.dumps(COCO))
    Image.new("RGB", (8, 8)).save(root.parent / "secret.jpg")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one image, for XML beside it."""
    folder = tmp_path_factory.mktemp("beside")
    Image.new("RGB", (64, 48)).save(folder / "e.jpg")
    return folder


def looked_at(kind: str, root: Path) -> Iterator[Path]:
    """The images that `--check` looks at, once its table was printed too."""
    for split in named(kind, root):
        yield from (record.image for record in split.records if record.image)
    Console(file=(root.parent / "table.txt").open("w", encoding="utf-8")).print(check(named(kind, root)).table())


def below(root: Path, image: Path) -> bool:
    return image.resolve().is_relative_to(root.resolve())


@cases(6)
@given(content=damaged(XML), encoding=st.sampled_from(ENCODINGS))
def test_an_xml_beside_its_image_is_read_or_refused_by_name(folder: Path, content: bytes, encoding: str) -> None:
    (folder / "e.xml").write_bytes(content.decode("latin-1").encode(encoding))
    with answered("e.xml"):
        data = DATASETS.build(
            dict(type="VOCFolderDataset", data_root=str(folder), metainfo=dict(classes=("7",)), pipeline=[])
        )
        for index in range(len(data)):
            assert below(folder, Path(data.get_data_info(index)["img_path"]))


@cases(3)
@given(
    text=st.recursive(st.sampled_from(["ha", "&#60;", "%p;"]), lambda inner: st.lists(inner).map("".join)),
    data=st.data(),
)
def test_entities_are_refused_whatever_they_are_and_in_every_encoding(text: str, data: st.DataObject) -> None:
    kind = data.draw(
        st.sampled_from(['ENTITY b "{}"', 'ENTITY % p "{}"', 'ENTITY b SYSTEM "file:///etc/passwd"', "ELEMENT a ANY"])
    )
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, data.draw(st.integers(1, 12))))
    document = f'<!DOCTYPE a [<!ENTITY l0 "ha"><!{kind.format(text)}>{levels}]><a>&l0;</a>'
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]))
    with answered("e.xml is no sound XML", refused=True):
        sound_xml.parse(document.encode(encoding), "e.xml")


@cases(5)
@given(content=damaged(XML), listing=st.just(b"e\n") | damaged(b"e\n") | st.sampled_from(NAMES).map(str.encode))
@example(content=XML, listing=b"../../secret")
@pytest.mark.parametrize("kind", ["digits", "widerface"])
def test_check_reads_voc_xml_and_its_list_or_names_them(root: Path, kind: str, content: bytes, listing: bytes) -> None:
    place, name = dict(digits=("", "ImageSets/Main/train.txt"), widerface=("WIDER_train", "train.txt"))[kind]
    (root / place / "Annotations/e.xml").write_bytes(content)
    (root / name).write_bytes(listing)
    with answered("train.txt", "e.xml"):
        assert all(below(root, image) for image in looked_at(kind, root))


@cases(6)
@given(content=damaged(KITTI), scored=st.booleans())
def test_kitti_labels_are_read_or_refused_by_line(root: Path, content: bytes, scored: bool) -> None:
    path = root / "training/label_2/e.txt"
    path.write_bytes(content)
    with answered("e.txt, line", "e.txt is no UTF-8"):
        found = read_labels(path, scored)
        assert len(parse_labels(content.decode("utf-8-sig"), path, scored).types) == len(found.boxes)


@cases(5)
@given(content=damaged(KITTI), listing=st.just(b"e\n") | damaged(b"e\n") | st.sampled_from(NAMES).map(str.encode))
def test_kitti_is_read_and_checked_or_refused_by_name(root: Path, content: bytes, listing: bytes) -> None:
    (root / "training/label_2/e.txt").write_bytes(content)
    (root / "ImageSets/train.txt").write_bytes(listing)
    with answered("e.txt", "train.txt"):
        data = DATASETS.build(
            dict(type="KittiDataset", data_root=str(root), ann_file="ImageSets/train.txt", pipeline=[])
        )
        for index in range(len(data)):
            assert below(root, Path(data.get_data_info(index)["img_path"]))
    with answered("train.txt"):
        assert all(below(root, image) for image in looked_at("kitti", root))


def coco_is_answered(root: Path, content: bytes) -> None:
    (root / "annotations/instances_train2017.json").write_bytes(content)
    with answered("instances_train2017.json"):
        assert all(below(root, image) for image in looked_at("coco", root))


@cases(7)
@given(altered(COCO, JSON))
def test_a_coco_json_of_other_things_is_checked_or_refused_by_name(root: Path, spoilt: tuple[Any, Any]) -> None:
    coco_is_answered(root, json.dumps(spoilt[0]).encode())


@cases(4)
@given(damaged(json.dumps(COCO).encode()))
def test_a_damaged_coco_json_is_checked_or_refused_by_name(root: Path, content: bytes) -> None:
    coco_is_answered(root, content)


@cases(4)
@given(damaged(FACES) | st.sampled_from(NAMES).map(lambda name: FACES.replace(b"0--Parade/e.jpg", name.encode(), 1)))
def test_face_lists_are_converted_or_refused_by_name(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("faces")
    (folder / "0--Parade").mkdir()
    Image.new("RGB", (64, 48)).save(folder / "0--Parade/e.jpg")
    (folder / "faces.txt").write_bytes(content)
    with answered("faces.txt"):
        write_annotations(folder / "faces.txt", folder)
        assert {path.parent.name for path in folder.rglob("*.xml")} <= {"Annotations"}
