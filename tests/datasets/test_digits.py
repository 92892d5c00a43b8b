"""The digits data set: same boxes in three formats, tight and fair, made whole or not at all."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from sklearn.datasets import load_digits

import det_distill  # noqa: F401  mmdet imports after it without a compiled mmcv
from det_distill.datasets import digit_scenes, digits, writers

SMALL = dict(train=12, val=4)
CONFIG = Path(__file__).parents[2] / "configs/_base_/datasets/digits.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "digits"
    assert digits.prepare(out, **SMALL)
    return out


def fingerprints(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def from_coco(root: Path, split: str) -> dict[str, list[tuple]]:
    from mmdet.datasets import CocoDataset

    data = CocoDataset(
        data_root=str(root),
        ann_file=f"annotations/{split}.json",
        data_prefix=dict(img="JPEGImages/"),
        metainfo=dict(classes=digits.CLASSES),
    )
    return by_stem(data)


def from_voc(root: Path, split: str) -> dict[str, list[tuple]]:
    from mmdet.datasets import XMLDataset

    data = XMLDataset(
        data_root=str(root),
        ann_file=f"ImageSets/Main/{split}.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=dict(classes=digits.CLASSES),
    )
    return by_stem(data)


def by_stem(data) -> dict[str, list[tuple]]:
    found = {}
    for info in data:
        assert cv2.imread(info["img_path"]).shape == (info["height"], info["width"], 3)
        found[Path(info["img_path"]).stem] = [
            (digits.CLASSES[one["bbox_label"]], *map(float, one["bbox"]), one["ignore_flag"])
            for one in info["instances"]
        ]
    return found


def from_kitti(root: Path, split: str) -> dict[str, list[tuple]]:
    found = {}
    for stem in (root / f"ImageSets/Main/{split}.txt").read_text().split():
        rows = [line.split() for line in (root / f"kitti/training/label_2/{stem}.txt").read_text().splitlines()]
        assert all(len(row) == 15 and row[1] == "0.00" and row[2] in ("0", "1") for row in rows)
        assert all(row[3] == "-10" and row[8:] == ["-1", "-1", "-1", "-1000", "-1000", "-1000", "-10"] for row in rows)
        found[stem] = [(row[0], *map(float, row[4:8]), 0) for row in rows]
    return found


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_voc_and_kitti_describe_the_same_boxes_and_classes(made: Path, split: str) -> None:
    coco = from_coco(made, split)
    assert len(coco) == SMALL[split]
    assert coco == from_voc(made, split)
    assert coco == from_kitti(made, split)
    assert all(1 <= len(boxes) <= 6 for boxes in coco.values())


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_coco_file_counts_from_one_and_measures_its_boxes(made: Path, split: str) -> None:
    coco = json.loads((made / f"annotations/{split}.json").read_text())
    for key in ("images", "annotations", "categories"):
        assert [one["id"] for one in coco[key]] == list(range(1, len(coco[key]) + 1))
    assert [one["name"] for one in coco["categories"]] == list("0123456789")
    for one in coco["annotations"]:
        assert one["area"] == one["bbox"][2] * one["bbox"][3] > 0
        assert one["iscrowd"] == 0


def test_voc_boxes_end_inside_the_picture_counted_from_one(made: Path) -> None:
    for path in (made / "Annotations").glob("*.xml"):
        values = [int(line.split(">")[1].split("<")[0]) for line in path.read_text().splitlines() if "<xm" in line]
        assert values
        assert all(1 <= value <= digits.SIDE for value in values)


def test_train_and_val_share_no_picture_and_no_glyph(made: Path) -> None:
    lists = [set((made / f"ImageSets/Main/{split}.txt").read_text().split()) for split in ("train", "val")]
    assert not lists[0] & lists[1]
    assert {path.stem for path in (made / "JPEGImages").iterdir()} == lists[0] | lists[1]
    train, val = digits.GLYPHS["train"], digits.GLYPHS["val"]
    assert 0 <= train.start < train.stop
    assert train.stop + 140 <= val.start  # more than one person's form
    assert val.stop == len(load_digits().target)
    for split, index in digits.GLYPHS.items():
        bundled = load_digits().images[index.start : index.stop] / 16
        used = np.concatenate(list(digits.glyphs_of(split).values()))
        assert sorted(map(bytes, used)) == sorted(map(bytes, bundled.astype(np.float32)))


def test_each_split_starts_where_the_text_of_the_form_starts_anew() -> None:
    labels = "".join(map(str, load_digits().target))
    for index in digits.GLYPHS.values():
        assert labels[index.start :].startswith("0123456789" * 2)
    assert labels[digits.GLYPHS["train"].stop :].startswith("0123456789" * 2)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes of digits alone on grey 128, so that a pixel that differs is ink."""
    ground = np.full((digits.SIDE, digits.SIDE, 3), 128, np.float32)
    monkeypatch.setattr(digit_scenes, "_ground", lambda rng: ground.copy())
    monkeypatch.setattr(digit_scenes, "_strew", lambda rng, canvas, glyphs: None)


@pytest.mark.usefixtures("bare")
def test_boxes_are_tight_around_the_ink_and_inside_the_picture() -> None:
    judged = 0
    for seed in range(60):
        image, items = digits.compose(np.random.default_rng(seed), digits.glyphs_of("val"))
        assert 1 <= len(items) <= 6
        luma = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 3).astype(int)
        far = abs(luma - 128)
        for item in items:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= digits.SIDE
            assert 0 <= y1 < y2 <= digits.SIDE
            left, top = max(0, x1 - 4), max(0, y1 - 4)
            seen = (left, top, x2 + 4, y2 + 4)
            if item.occluded or any(meet(seen, other.box) for other in items if other is not item):
                continue  # only a lone digit can be judged by its pixels
            patch = far[top : y2 + 4, left : x2 + 4]
            ys, xs = np.nonzero(patch > patch.max() / 2)
            found = xs.min() + left, ys.min() + top, xs.max() + 1 + left, ys.max() + 1 + top
            assert np.abs(np.subtract(found, item.box)).max() <= 2, (seed, item, found)
            assert np.percentile(patch, 90) > 20, "discernible"
            judged += 1
    assert judged > 60


@pytest.mark.usefixtures("bare")
def test_all_ink_lies_in_some_box() -> None:
    for seed in range(20):
        image, items = digits.compose(np.random.default_rng(seed), digits.glyphs_of("train"))
        far = abs(cv2.medianBlur(image, 5)[..., 1].astype(int) - 128) > 30
        for item in items:
            x1, y1, x2, y2 = item.box
            far[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
        assert not far.any()


def test_boxes_overlap_by_an_iou_below_a_tenth_and_say_who_is_hidden() -> None:
    occluded = 0
    for seed in range(30):
        _, items = digits.compose(np.random.default_rng(seed), digits.glyphs_of("train"))
        for a, b in itertools.combinations((item.box for item in items), 2):
            in_a, in_b = (pixels_in(box) for box in (a, b))
            assert (in_a & in_b).sum() < 0.1 * (in_a | in_b).sum()
        for item in items:
            occluded += item.occluded
            others = (other.box for other in items if other is not item)
            assert not item.occluded or any(meet(item.box, box) for box in others)
    assert occluded


def meet(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def pixels_in(box: tuple[int, int, int, int]) -> np.ndarray:
    ys, xs = np.mgrid[: digits.SIDE, : digits.SIDE]
    return (box[0] <= xs) & (xs < box[2]) & (box[1] <= ys) & (ys < box[3])


def test_the_seed_fixes_every_byte_and_another_seed_changes_every_picture(made: Path, tmp_path: Path) -> None:
    assert digits.prepare(tmp_path / "again", **SMALL)
    assert digits.prepare(tmp_path / "other", seed=1, **SMALL)
    first, again, other = (fingerprints(path) for path in (made, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert not any(first[name] == other[name] for name in first if name.endswith(".jpg"))


def test_a_larger_set_contains_the_smaller(made: Path, tmp_path: Path) -> None:
    assert digits.prepare(tmp_path / "larger", train=14, val=1)
    small, large = fingerprints(made), fingerprints(tmp_path / "larger")
    assert all(small[name] == large[name] for name in (f"JPEGImages/{i:06}.jpg" for i in range(12)))


@pytest.mark.parametrize("writer", ["write_picture", "write_split"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch, writer: str, error: type) -> None:
    real, calls = getattr(digits, writer), itertools.count()

    def fails_at_the_second_call(*args) -> None:
        if next(calls):
            raise error
        real(*args)

    monkeypatch.setattr(digits, writer, fails_at_the_second_call)
    with pytest.raises(error):
        digits.prepare(tmp_path / "digits", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_leaves_the_old_set(made: Path, tmp_path: Path, monkeypatch) -> None:
    out = shutil.copytree(made, tmp_path / "digits")
    monkeypatch.setattr(digits, "write_split", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        digits.prepare(out, seed=5, force=True, **SMALL)
    assert fingerprints(out) == fingerprints(made)
    assert list(tmp_path.iterdir()) == [out]


def test_a_set_made_with_the_same_settings_is_left_alone(made: Path, monkeypatch) -> None:
    monkeypatch.setattr(digits, "compose", lambda *args: pytest.fail("painted again"))
    assert not digits.prepare(made, **SMALL)


def test_other_settings_are_refused_unless_forced(made: Path, tmp_path: Path) -> None:
    out = shutil.copytree(made, tmp_path / "digits")
    with pytest.raises(ValueError, match=r"made with .*'seed': 0.*wanted .*'seed': 7.*--force"):
        digits.prepare(out, seed=7, **SMALL)
    assert fingerprints(out) == fingerprints(made)
    assert digits.prepare(out, seed=0, train=1, val=1, force=True)
    assert len(list((out / "JPEGImages").iterdir())) == 2
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("record", [None, "", "{half"])
def test_a_folder_without_a_sound_record_is_refused(tmp_path: Path, record: str | None) -> None:
    (tmp_path / "mine.txt").write_text("dear to me")
    if record is not None:
        (tmp_path / "digits.json").write_text(record)
    with pytest.raises(ValueError, match=r"digits\.json.*--force"):
        digits.prepare(tmp_path, **SMALL)
    assert (tmp_path / "mine.txt").read_text() == "dear to me"


@pytest.mark.parametrize("wrong", [dict(train=0), dict(val=0), dict(seed=-1)], ids=str)
def test_numbers_too_small_are_refused_by_name(tmp_path: Path, wrong: dict[str, int]) -> None:
    ((key, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{key} is {value}, expected at least"):
        digits.prepare(tmp_path / "digits", **wrong)


def test_a_box_on_the_pixel_grid_is_written_as_each_reader_expects(tmp_path: Path) -> None:
    picture = writers.Picture("a.jpg", 100, 50, (writers.Item("7", (0, 10, 20, 49), occluded=True),))
    for write, name in ((writers.write_voc, "voc"), (writers.write_kitti, "kitti")):
        write(tmp_path / name, picture)
    writers.write_coco(tmp_path / "coco", [picture], ["6", "7"])
    assert "<xmin>1</xmin>\n      <ymin>11</ymin>\n      <xmax>21</xmax>" in (tmp_path / "voc").read_text()
    assert (tmp_path / "kitti").read_text().startswith("7 0.00 1 -10 0.00 10.00 20.00 49.00 -1 ")
    (one,) = json.loads((tmp_path / "coco").read_text())["annotations"]
    assert (one["bbox"], one["category_id"], one["area"]) == ([0, 10, 20, 39], 2, 780)


def test_the_config_feeds_whole_scenes_and_mirrors_none(made: Path) -> None:
    from mmdet.registry import DATASETS

    config = Config.fromfile(CONFIG)
    init_default_scope("mmdet")
    assert tuple(config.classes) == digits.CLASSES
    for loader, length in ((config.train_dataloader, SMALL["train"]), (config.val_dataloader, SMALL["val"])):
        data = DATASETS.build(loader.dataset | dict(data_root=str(made)))
        assert len(data) == length
        assert data[0]["inputs"].shape == (3, digits.SIDE, digits.SIDE)
        assert not data[0]["data_samples"].get("flip", False)
    assert Path(config.val_evaluator.ann_file) == Path(config.data_root) / config.val_dataloader.dataset.ann_file
