"""Each data set comes as MMDetection's stock config wants it, whole or not at all, and is fetched once."""

import hashlib
import io
import itertools
import os
import runpy
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from mmengine.hub import get_config
from PIL import Image
from torchvision.datasets.voc import DATASET_YEAR_DICT
from torchvision.datasets.widerface import WIDERFace

from det_distill.datasets import prepare, sources, widerface
from det_distill.datasets.kitti_split import chen_split
from det_distill.datasets.sources import Part

TOOL = Path(__file__).parents[2] / "tools/prepare_data.py"
XML = (
    "<annotation><size><width>64</width><height>48</height></size><object><name>dog</name><bndbox>"
    "<xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>33</ymax></bndbox></object></annotation>"
)
COCO = (
    '{"images": [{"id": 7, "file_name": "%s.jpg", "width": 64, "height": 48}], "annotations": [{"id": 1, "image_id": 7,'
    ' "category_id": 18, "bbox": [1, 2, 10, 30], "area": 300, "iscrowd": 0}],'
    ' "categories": [{"id": 18, "name": "dog"}]}'
)
FACES = (
    "0--Parade/0_Parade_a_1.jpg\n2\n10 8 20 30 1 1 1 0 2 1 \n40 9 3 4 0 0 0 1 0 0 \n"
    "1--Riot/1_Riot_b_2.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n"
)


def jpeg(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 48), grey).save(buffer, "jpeg")
    return buffer.getvalue()


def voc_year(*stems: str, **lists: str) -> dict[str, bytes]:
    files = {f"JPEGImages/{stem}.jpg": jpeg(i) for i, stem in enumerate(stems)}
    files |= {f"Annotations/{stem}.xml": XML.encode() for stem in stems}
    return files | {f"ImageSets/Main/{name}.txt": f"{stem}\n".encode() for name, stem in lists.items()}


def below(place: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{place}/{name}": content for name, content in files.items()}


CONTENTS = {
    "VOCtrainval_06-Nov-2007.tar": below("VOCdevkit/VOC2007", voc_year("000005", trainval="000005")),
    "VOCtest_06-Nov-2007.tar": below("VOCdevkit/VOC2007", voc_year("000001", test="000001")),
    "VOCtrainval_11-May-2012.tar": below("VOCdevkit/VOC2012", voc_year("2008_1", trainval="2008_1")),
    "train2017.zip": {"train2017/train.jpg": jpeg(1)},
    "val2017.zip": {"val2017/val.jpg": jpeg(2)},
    "annotations_trainval2017.zip": {
        f"annotations/instances_{split}2017.json": (COCO % split).encode() for split in ("train", "val")
    },
    "data_object_image_2.zip": {"training/image_2/000000.png": b"train", "testing/image_2/000000.png": b"test"},
    "data_object_label_2.zip": {"training/label_2/000000.txt": b"Car 0 0 0 1 2 3 4 0 0 0 0 0 0 0\n"},
    "WIDER_train.zip": {
        "WIDER_train/images/0--Parade/0_Parade_a_1.jpg": jpeg(3),
        "WIDER_train/images/1--Riot/1_Riot_b_2.jpg": jpeg(4),
    },
    "WIDER_val.zip": {
        "WIDER_val/images/0--Parade/0_Parade_a_1.jpg": jpeg(5),
        "WIDER_val/images/1--Riot/1_Riot_b_2.jpg": jpeg(6),
    },
    "wider_face_split.zip": {
        f"wider_face_split/wider_face_{split}_bbx_gt.txt": FACES.encode() for split in ("train", "val")
    },
}
COUNTS = {"VOC2007/JPEGImages/*.jpg": 2, "VOC2007/Annotations/*.xml": 2} | {
    f"WIDER_{split}/{pattern}": 2 for split in ("train", "val") for pattern in ("*/*.jpg", "Annotations/*.xml")
}
STOCK = dict(voc="voc0712", coco="coco_detection", widerface="wider_face")
PARTS = dict(voc=sources.VOC, coco=sources.COCO, kitti=sources.KITTI, widerface=sources.WIDERFACE)


def packed(name: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, content in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tiny_parts(server, name: str) -> tuple[Part, ...]:
    """The real parts, whose archives are tiny and here, and of which few files are expected."""
    return tuple(
        replace(
            part,
            archives=tuple(server.offer(a.name, packed(a.name, CONTENTS[a.name])) for a in part.archives),
            counts={pattern: COUNTS.get(pattern, 1) for pattern in part.counts},
            fresh={pattern: COUNTS.get(pattern, 1) for pattern in part.fresh},
        )
        for part in PARTS[name]
    )


def stock_data(name: str, loader: str, root: Path) -> list:
    """What MMDetection reads from `root` by its own config."""
    cfg = get_config(f"mmdet::_base_/datasets/{STOCK[name]}.py")[f"{loader}_dataloader"].dataset
    while "dataset" in cfg:
        cfg = cfg.dataset
    found = []
    for one in cfg.get("datasets", [cfg]):
        found += DATASETS.build({**one, "data_root": f"{root}/", "pipeline": [], "filter_cfg": None})
    return found


def boxes(info: dict) -> list[tuple]:
    return [(one["bbox_label"], *one["bbox"], one["ignore_flag"]) for one in info["instances"]]


@pytest.mark.parametrize("name", PARTS)
def test_it_is_fetched_once_and_nothing_else_is_left(server, tmp_path: Path, name: str) -> None:
    root, parts = tmp_path / "set", tiny_parts(server, name)
    assert prepare.PREPARE[name](root, parts)
    asked = len(server.asked)
    assert asked == len({archive for part in parts for archive in part.archives})
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert not prepare.PREPARE[name](root, parts)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert len(server.asked) == asked
    assert not [path for path in root.rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]


def test_voc_reads_by_the_stock_config(server, tmp_path: Path) -> None:
    prepare.voc(tmp_path, tiny_parts(server, "voc"))
    train, val = stock_data("voc", "train", tmp_path), stock_data("voc", "val", tmp_path)
    assert [info["img_id"] for info in train] == ["000005", "2008_1"]
    assert [info["img_id"] for info in val] == ["000001"]
    assert all(boxes(info) == [(11, 1, 2, 11, 32, 0)] for info in train + val)  # a dog; VOC counts from 1
    assert all(Path(info["img_path"]).is_file() for info in train + val)


def test_coco_reads_by_the_stock_config(server, tmp_path: Path) -> None:
    prepare.coco(tmp_path, tiny_parts(server, "coco"))
    for loader in ("train", "val"):
        (info,) = stock_data("coco", loader, tmp_path)
        assert Path(info["img_path"]) == tmp_path / f"{loader}2017/{loader}.jpg"
        assert Path(info["img_path"]).is_file()
        assert boxes(info) == [(0, 1, 2, 11, 32, 0)]  # the label is the rank among the json's own categories


def test_wider_face_reads_by_the_stock_config(server, tmp_path: Path) -> None:
    prepare.PREPARE["widerface"](tmp_path, tiny_parts(server, "widerface"))
    for loader in ("train", "val"):
        parade, riot = stock_data("widerface", loader, tmp_path)
        assert Path(parade["img_path"]) == tmp_path / f"WIDER_{loader}/0--Parade/0_Parade_a_1.jpg"
        assert Path(riot["img_path"]).is_file()
        assert (parade["width"], parade["height"]) == (64, 48)
        assert boxes(parade) == [(0, 10, 8, 30, 38, 0), (0, 40, 9, 43, 13, 1)]  # the second is invalid, so ignored
        assert boxes(riot) == []  # its row of zeros is no face


def test_kitti_lies_as_published_with_the_usual_split(server, tmp_path: Path) -> None:
    prepare.kitti(tmp_path, tiny_parts(server, "kitti"))
    read = {
        place: (tmp_path / place).read_bytes()
        for place in ("training/image_2/000000.png", "testing/image_2/000000.png")
    }
    assert list(read.values()) == [b"train", b"test"]
    assert (tmp_path / "training/label_2/000000.txt").read_text().startswith("Car")
    lists = {split: (tmp_path / f"ImageSets/{split}.txt").read_bytes() for split in ("train", "val")}
    # sha256 that others record for the files of this name in second.pytorch, OpenPCDet and MonoDGP
    assert {split: hashlib.sha256(content).hexdigest() for split, content in lists.items()} == dict(
        train="e85ce0142be11c7e4196fd7b79a8bc8c2cefdd6fe754ac61fef8d421e37aba5c",
        val="6e2394d97c866c3af1ffb049f828abdf3d5b707d9575d16885fd0de87b72b0c8",
    )


def test_chens_split_cuts_all_labelled_images_in_two() -> None:
    split = chen_split()
    assert (len(split["train"]), len(split["val"])) == (3712, 3769)
    assert sorted(split["train"] + split["val"]) == [f"{i:06}" for i in range(7481)]
    assert split["train"][:4] == ("000000", "000003", "000007", "000009")


def test_a_split_of_the_users_own_is_left_alone(server, tmp_path: Path) -> None:
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/val.txt").write_text("000000\n")
    prepare.kitti(tmp_path, tiny_parts(server, "kitti"))
    assert (tmp_path / "ImageSets/val.txt").read_text() == "000000\n"


def test_only_what_is_missing_is_fetched(server, tmp_path: Path) -> None:
    parts = tiny_parts(server, "coco")
    prepare.coco(tmp_path, parts)
    for path in (tmp_path / "val2017/val.jpg", tmp_path / "val2017", tmp_path / "downloads/val2017.zip"):
        path.rmdir() if path.is_dir() else path.unlink()
    server.asked.clear()
    assert prepare.coco(tmp_path, parts)
    assert [path for path, *_ in server.asked] == ["/files/val2017.zip"]


def test_kitti_without_test_images_is_whole(server, tmp_path: Path) -> None:
    parts = tiny_parts(server, "kitti")
    for file, content in {**CONTENTS["data_object_image_2.zip"], **CONTENTS["data_object_label_2.zip"]}.items():
        if file.startswith("training"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(content)
    assert not prepare.kitti(tmp_path, parts)
    assert server.asked == []


def test_a_part_that_is_half_there_is_named_and_left(server, tmp_path: Path) -> None:
    parts = tiny_parts(server, "voc")
    prepare.voc(tmp_path, parts)
    (tmp_path / "VOC2007/JPEGImages/000001.jpg").unlink()
    server.asked.clear()
    with pytest.raises(ValueError, match=r"move .*VOC2007 away.*holds 1 of 2 VOC2007/JPEGImages/\*\.jpg"):
        prepare.voc(tmp_path, parts)
    assert (tmp_path / "VOC2007/JPEGImages/000005.jpg").is_file()
    assert server.asked == []


@pytest.mark.parametrize("name", PARTS)
def test_an_archive_that_holds_too_little_leaves_nothing(server, tmp_path: Path, name: str) -> None:
    part = tiny_parts(server, name)[0]
    more = {pattern: count + 1 for pattern, count in part.counts.items()}
    with pytest.raises(ValueError, match=r"once unpacked, holds \d of \d "):
        prepare.PREPARE[name](tmp_path, (replace(part, counts=more),))
    assert os.listdir(tmp_path) == ["downloads"]


@pytest.mark.parametrize("name", PARTS)
def test_an_archive_cut_short_leaves_nothing_even_where_its_checksum_fits(server, tmp_path: Path, name: str) -> None:
    part = tiny_parts(server, name)[0]
    first = part.archives[0].name
    cut = server.offer(first, packed(first, CONTENTS[first])[:250])
    with pytest.raises(ValueError, match=rf"{first} is truncated or damaged"):
        prepare.PREPARE[name](tmp_path, (replace(part, archives=(cut, *part.archives[1:])),))
    assert os.listdir(tmp_path) == ["downloads"]


def test_an_archive_without_the_folder_is_refused(server, tmp_path: Path) -> None:
    part = replace(tiny_parts(server, "coco")[0], archives=tiny_parts(server, "coco")[1].archives)
    with pytest.raises(ValueError, match=r"val2017.zip: no folder train2017 in what was unpacked"):
        prepare.coco(tmp_path, (part,))


def test_an_interrupted_conversion_leaves_nothing(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, convert = tiny_parts(server, "widerface"), widerface.write_annotations

    def stop(text: Path, folder: Path) -> None:
        convert(text, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(widerface, "write_annotations", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare.PREPARE["widerface"](tmp_path, parts)
    assert os.listdir(tmp_path) == ["downloads"]
    monkeypatch.undo()
    assert prepare.PREPARE["widerface"](tmp_path, parts)


def test_checksums_are_those_of_torchvision() -> None:
    ours = {a.name: a.checksum for part in (*sources.VOC, *sources.WIDERFACE) for a in part.archives}
    theirs = {
        DATASET_YEAR_DICT[key]["filename"]: DATASET_YEAR_DICT[key]["md5"] for key in ("2007", "2007-test", "2012")
    }
    theirs |= {name: md5 for _, md5, name in WIDERFace.FILE_LIST if "test" not in name}
    theirs[WIDERFace.ANNOTATIONS_FILE[2]] = WIDERFace.ANNOTATIONS_FILE[1]
    assert ours == {name: f"md5:{md5}" for name, md5 in theirs.items()}


def test_every_archive_has_its_size_and_a_checksum_of_its_own() -> None:
    archives = {a for part in itertools.chain(*PARTS.values()) for a in part.archives}
    lengths = dict(md5=32, sha256=64)
    assert all(lengths[a.checksum.partition(":")[0]] == len(a.checksum.partition(":")[2]) for a in archives)
    assert len({a.checksum for a in archives}) == len({a.size for a in archives}) == len(archives) == 11


def tool(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.mark.parametrize("flag", ["--out", "--root"])
def test_the_tool_makes_digits_whole(monkeypatch, capsys, tmp_path: Path, flag: str) -> None:
    arguments = ("digits", flag, tmp_path / "few", "--train", 3, "--val", 2, "--seed", 5)
    assert tool(monkeypatch, *arguments) == 0
    assert f"made {tmp_path / 'few'}" in capsys.readouterr().out
    assert len(list((tmp_path / "few/JPEGImages").iterdir())) == 5
    assert tool(monkeypatch, *arguments) == 0
    assert "is there already, made with the same settings" in capsys.readouterr().out
    assert tool(monkeypatch, *arguments[:-1], 6) == 2
    assert "use --force" in capsys.readouterr().err
    assert tool(monkeypatch, *arguments[:-1], 6, "--force") == 0


def test_the_tool_says_in_one_line_what_to_do_where_the_network_refuses(monkeypatch, capsys, tmp_path: Path) -> None:
    refused = replace(sources.KITTI[0].archives[0], address="http://127.0.0.1:9/data_object_image_2.zip")
    part = replace(sources.KITTI[0], archives=(refused,))
    monkeypatch.setattr(prepare.kitti, "__defaults__", ((part,),))
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert tool(monkeypatch, "kitti", "--root", tmp_path) == 2
    told = capsys.readouterr().err
    assert "127.0.0.1:9" in told
    assert f"put the file at {tmp_path / 'downloads/data_object_image_2.zip'}" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("arguments", [(), ("coco", "--check", "--config", "x.py"), ("--config", "x.py")], ids=str)
def test_the_tool_wants_a_name_or_a_config_to_check(monkeypatch, capsys, arguments: tuple[str, ...]) -> None:
    assert tool(monkeypatch, *arguments) == 2
    assert "name a data set, or --check --config CONFIG" in capsys.readouterr().err


def test_force_is_refused_where_it_would_throw_downloads_away(monkeypatch, capsys, tmp_path: Path) -> None:
    assert tool(monkeypatch, "voc", "--force", "--root", tmp_path) == 2
    assert "--force replaces digits only" in capsys.readouterr().err
