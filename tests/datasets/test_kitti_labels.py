"""KITTI's files are read as plain string splitting reads them, written back to the byte, and broken lines are named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from det_distill.datasets.kitti_labels import TYPES, Objects, detections, parse_labels, read_labels, write_labels

LABELS = Path(__file__).parents[2].parent / "shared/data/kitti_tiny/training/label_2"
CAR = "Car 0.88 3 -0.69 0.00 192.37 402.31 374.00 1.60 1.57 3.23 -2.70 1.74 3.68 -1.29"
AREA = "DontCare -1 -1 -10 800.38 163.67 825.45 184.07 -1 -1 -1 -1000 -1000 -1000 -10"


def test_a_line_is_a_type_and_fourteen_numbers(tmp_path):
    path = tmp_path / "000001.txt"
    path.write_text(f"{CAR}\n\n  {AREA}  \n")
    objects = read_labels(path)
    assert objects.types == ("Car", "DontCare")
    assert objects.columns[0].tolist() == [float(word) for word in CAR.split()[1:]]
    assert objects.truncated.tolist() == [0.88, -1]
    assert objects.occluded.tolist() == [3, -1]
    assert objects.boxes.tolist() == [[0, 192.37, 402.31, 374], [800.38, 163.67, 825.45, 184.07]]
    assert objects.scores is None


def test_a_result_has_a_score_besides():
    objects = parse_labels(f"{CAR} -3.5\n{AREA} 0.25", "here", scored=True)
    assert objects.scores.tolist() == [-3.5, 0.25]
    assert objects.boxes.shape == (2, 4)


@pytest.mark.parametrize("scored", [False, True])
def test_an_empty_file_has_no_objects(scored):
    objects = parse_labels("\n", "here", scored)
    assert (objects.types, objects.boxes.shape) == ((), (0, 4))
    assert objects.scores is None or objects.scores.shape == (0,)


def test_detections_are_unknown_in_all_but_the_box(tmp_path):
    write_labels(tmp_path / "a.txt", detections(["Car"], np.array([[1.5, 2, 30, 40]]), np.array([0.75])))
    text = "Car -1 -1 -10 1.50 2.00 30.00 40.00 -1 -1 -1 -1000 -1000 -1000 -10 0.75\n"
    assert (tmp_path / "a.txt").read_text() == text


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"1 types, want \(N, 4\) boxes and \(N,\) scores, got \(2, 4\) and \(1,\)"):
        detections(["Car"], np.zeros((2, 4)), np.zeros(1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (CAR.rsplit(" ", 1)[0], r"14 columns, expected 15 \(labels\)"),
        (f"{CAR} 0.9", r"16 columns, expected 15 \(labels\)"),
        (CAR.replace("192.37", "high"), "column 6 is 'high', expected a number"),
        (CAR.replace("-1.29", "nan"), "column 15 is 'nan', expected a number"),
        (CAR.replace("0.88", "inf"), "column 2 is 'inf', expected a number"),
        (CAR.replace("402.31", "-1"), r"box 0 192\.37 -1 374, expected x1 <= x2 and y1 <= y2"),
        (CAR.replace("374.00", "100"), r"box 0 192\.37 402\.31 100, expected x1 <= x2 and y1 <= y2"),
        (CAR.replace("Car", "Cra"), r"type 'Cra' is unknown, did you mean 'Car'\?; known: Car, Van"),
        (CAR.replace("Car", "Zeppelin"), "type 'Zeppelin' is unknown; known: Car, Van"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "000002.txt"
    path.write_text(f"{AREA}\n\n{line}\n{AREA}\n")
    with pytest.raises(ValueError, match=rf"000002\.txt, line 3: {message}"):
        read_labels(path)


def test_a_result_without_a_score_is_broken():
    with pytest.raises(ValueError, match=r"^mine, line 1: 15 columns, expected 16 \(results\)"):
        parse_labels(CAR, "mine", scored=True)


NUMBERS = st.floats(-1e4, 1e4)


@given(
    columns=arrays(
        float, st.tuples(st.integers(0, 4), st.just(14)), elements=NUMBERS | st.sampled_from([-1, -10, -1000])
    ),
    scores=arrays(float, 4, elements=st.floats(allow_nan=False, allow_infinity=False)) | st.none(),
    kinds=st.lists(st.sampled_from(TYPES), min_size=4, max_size=4),
)
def test_what_is_written_is_read_back_to_the_bit(tmp_path_factory, columns, scores, kinds):
    columns[:, 1] = np.round(columns[:, 1] / 1e4)
    columns[:, 5:7] = np.maximum(columns[:, 3:5], columns[:, 5:7])
    n = len(columns)
    objects = Objects(tuple(kinds[:n]), columns, None if scores is None else scores[:n])
    path = tmp_path_factory.getbasetemp() / "one.txt"
    write_labels(path, objects)
    back = read_labels(path, scored=scores is not None)
    assert back.types == objects.types
    assert back.columns.tolist() == columns.tolist()
    assert scores is None or back.scores.tolist() == scores[:n].tolist()


@pytest.mark.shared_data
def test_kitti_s_own_files_are_written_back_to_the_byte(tmp_path):
    if not LABELS.is_dir():
        pytest.skip("no ../shared/data/kitti_tiny")
    found = {}
    for path in sorted(LABELS.glob("*.txt")):
        objects = read_labels(path)
        write_labels(tmp_path / path.name, objects)
        assert (tmp_path / path.name).read_text().strip() == path.read_text().strip()
        for kind in objects.types:
            found[kind] = found.get(kind, 0) + 1
    assert (found["Car"], found["Pedestrian"], found["Van"], found["Cyclist"], found["DontCare"]) == (
        209,
        36,
        25,
        14,
        188,
    )
