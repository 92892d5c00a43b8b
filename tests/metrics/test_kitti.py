"""KittiMetric hands label files and detections to the protocol, reports every key, and writes KITTI's own files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS

import det_distill.metrics.kitti  # noqa: F401
from det_distill.datasets.kitti_labels import read_labels
from det_distill.metrics.kitti_ap import DIFFICULTIES, ap11, ap40, average_precision, precisions

LABELS = Path(__file__).parents[2].parent / "shared/data/kitti_tiny/training/label_2"
CLASSES = ("Car", "Pedestrian", "Cyclist")
LEVELS = ("easy", "moderate", "hard")


def line(kind, x=0, height=50):
    return f"{kind} 0.00 0 1.5 {x}.00 0.00 {x + 50}.00 {height}.00 1.5 1.6 3.7 2.0 1.5 13.2 1.6\n"


def sample(frame, *found):
    """`found` are (label, box, score)."""
    return dict(
        img_id=frame,
        pred_instances=dict(
            labels=torch.tensor([label for label, _, _ in found], dtype=torch.long),
            bboxes=torch.tensor([box for _, box, _ in found], dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor([score for *_, score in found], dtype=torch.float32),
        ),
    )


def build(folder, classes=CLASSES, **other):
    metric = METRICS.build(dict(type="KittiMetric", ann_dir=str(folder)) | other)
    metric.dataset_meta = dict(classes=classes)
    return metric


def judged(metric, *samples):
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "label_2"
    folder.mkdir()
    for i in range(80):
        (folder / f"{i:06}.txt").write_text(line("Car") + line("Pedestrian", 100) + line("Van", 200))
    return folder


CAR, WALKER, VAN = [0.0, 0.0, 50.0, 50.0], [100.0, 0.0, 150.0, 50.0], [200.0, 0.0, 250.0, 50.0]


def test_every_key_by_hand(labels):
    """All 80 cars and vans are found as cars; of the pedestrians the first 40, as far as recall 1/2, so that AP40 is
    20/40 and AP11 the 6 of 11 points up to 0.5. There are no cyclists."""
    samples = [
        sample(f"{i:06}", (0, CAR, 0.9), (0, VAN, 0.95), *([(1, WALKER, 0.8)] if i < 40 else [])) for i in range(80)
    ]
    values = judged(build(labels), *samples)
    expected = {"kitti/Car_AP": 1, "kitti/Pedestrian_AP": 0.5, "kitti/Cyclist_AP": math.nan, "kitti/mAP": 0.75}
    for level in LEVELS:
        for key, walker in (("AP40", 0.5), ("AP11", 6 / 11)):
            found = {"Car_": 1, "Pedestrian_": walker, "Cyclist_": math.nan, "": (1 + walker) / 2}
            expected |= {f"kitti/{name}{level}_{key}": value for name, value in found.items()}
    assert values == pytest.approx(expected, nan_ok=True)


def test_the_difficulties_and_classes_are_not_mixed_up(labels):
    """One low pedestrian instead of the cars: it counts at moderate and hard alone."""
    for path in labels.iterdir():
        path.write_text(line("Pedestrian", 0, 30))
    values = judged(build(labels), *(sample(f"{i:06}", (1, [0, 0, 50, 30], 0.5)) for i in range(80)))
    told = {key for key, value in values.items() if not math.isnan(value)}
    rest = {f"{name}{level}_{key}" for name in ("Pedestrian_", "") for level in LEVELS[1:] for key in ("AP40", "AP11")}
    assert told == {f"kitti/{key}" for key in rest | {"Pedestrian_AP", "mAP"}}
    assert {values[key] for key in told} == {1}


def test_labels_count_in_the_data_set_s_order_of_classes(labels):
    samples = [sample(f"{i:06}", (2, CAR, 0.9), (0, WALKER, 0.9)) for i in range(80)]
    values = judged(build(labels, ("Pedestrian", "Cyclist", "Car")), *samples)
    assert values["kitti/Car_easy_AP40"] == values["kitti/Pedestrian_easy_AP40"] == 1


def test_means_are_nan_only_where_all_classes_are(labels):
    values = judged(build(labels, ("Cyclist",)), sample("000000"))
    assert len(values) == 2 * (6 + 1)
    assert all(math.isnan(value) for value in values.values())


def test_a_table_is_logged(labels, monkeypatch):
    said = []
    monkeypatch.setattr("mmengine.logging.MMLogger.info", lambda _, text, *args: said.append(str(text)))
    judged(build(labels), *(sample(f"{i:06}", (0, CAR, 0.9)) for i in range(80)))
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in said[-1].splitlines() if "|" in row]
    assert rows == [
        ["class", *(f"{level} {key}" for key in ("AP40", "AP11") for level in LEVELS), "AP"],
        ["Car", *7 * ["1.000"]],
        ["Pedestrian", *7 * ["0.000"]],
        ["Cyclist", *7 * ["nan"]],
        ["mean", *7 * ["0.500"]],
    ]


def test_results_are_written_as_kitti_s_own_files_also_of_empty_frames(labels, tmp_path):
    judged(build(labels, outfile_prefix=str(tmp_path / "a/b")), sample("000000", (1, WALKER, 0.5)), sample("000001"))
    row = "Pedestrian -1 -1 -10 100.00 0.00 150.00 50.00 -1 -1 -1 -1000 -1000 -1000 -10 0.5\n"
    assert (tmp_path / "a/b/000000.txt").read_text() == row
    assert (tmp_path / "a/b/000001.txt").read_text() == ""


def test_format_only_needs_no_labels_and_evaluates_nothing(tmp_path):
    metric = METRICS.build(dict(type="KittiMetric", format_only=True, outfile_prefix=str(tmp_path / "out")))
    metric.dataset_meta = dict(classes=("Van", "Car"))
    assert judged(metric, sample("000009", (0, CAR, 0.5))) == {}
    assert read_labels(tmp_path / "out/000009.txt", scored=True).types == ("Van",)


@pytest.mark.shared_data
def test_on_real_labels_the_values_are_the_protocol_s_of_the_files_it_writes(tmp_path):
    if not LABELS.is_dir():
        pytest.skip("no ../shared/data/kitti_tiny")
    rng = np.random.default_rng(3)
    samples, truths = [], []
    for path in sorted(LABELS.glob("*.txt")):
        truth = read_labels(path)
        truths.append(truth)
        named = {"Car": 0, "Pedestrian": 1, "Cyclist": 2, "Van": 0}
        boxes = truth.boxes + rng.normal(0, 2, truth.boxes.shape)
        picks = [i for i, kind in enumerate(truth.types) if kind in named and rng.random() < 0.8]
        samples.append(sample(path.stem, *((named[truth.types[i]], boxes[i].tolist(), rng.random()) for i in picks)))
    values = judged(build(LABELS, outfile_prefix=str(tmp_path)), *samples)
    found = [read_labels(tmp_path / path.name, scored=True) for path in sorted(LABELS.glob("*.txt"))]
    for name in CLASSES:
        for level, difficulty in DIFFICULTIES.items():
            curve = precisions(truths, found, name, difficulty)
            assert values[f"kitti/{name}_{level}_AP40"] == pytest.approx(ap40(curve), abs=0)
            assert values[f"kitti/{name}_{level}_AP11"] == pytest.approx(ap11(curve), abs=0)
        assert values[f"kitti/{name}_AP"] == average_precision(truths, found, name)
    assert 0 < values["kitti/mAP"] < 1


# ---------------------------------------------------------------- mistakes


def test_a_missing_folder_names_the_nearest(labels):
    with pytest.raises(FileNotFoundError, match=r"ann_dir: no folder '.*label2'; did you mean .*label_2\?"):
        build(labels.parent / "label2")


def test_a_frame_without_labels_is_named_with_the_first_batch(labels):
    with pytest.raises(
        FileNotFoundError, match=r"ann_dir has no labels of img_id='00007'.*did you mean .*00007.*\.txt"
    ):
        build(labels).process({}, [sample("00007")])


def test_a_broken_label_file_is_named(labels):
    (labels / "000000.txt").write_text("Car 1\n")
    with pytest.raises(ValueError, match=r"000000\.txt, line 1: 2 columns, expected 15"):
        build(labels).process({}, [sample("000000")])


def test_a_class_that_kitti_does_not_evaluate_is_refused(labels):
    with pytest.raises(ValueError, match=r"classes of KittiMetric='car' is none of 'Car', .*did you mean 'Car'\?"):
        build(labels, ("car",)).process({}, [sample("000000")])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(ann_dir=None), "ann_dir=None, expected"),
        (dict(format_only=True), "outfile_prefix=None, expected a folder"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(labels, wrong, message):
    with pytest.raises(ValueError, match=message):
        build(labels, **wrong) if "ann_dir" not in wrong else METRICS.build(dict(type="KittiMetric"))
