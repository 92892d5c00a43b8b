"""KITTI's protocol, judged by loops over frames, thresholds and boxes written from its description, and by hand."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from det_distill.datasets.kitti_labels import Objects, detections
from det_distill.metrics.kitti_ap import DIFFICULTIES, ap11, ap40, average_precision, precisions, recall_thresholds

ROOT = Path(__file__).parents[2]
LABELS = ROOT.parent / "shared/data/kitti_tiny/training/label_2"
CLASSES = ("Car", "Pedestrian", "Cyclist")
LEVELS = ("easy", "moderate", "hard")

# ---------------------------------------------------------------- the protocol, slowly
#
# A frame is (objects, found): objects are (type, truncated, occluded, box), found are (type, box, score).

LEAST_IOU = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
ALIKE = {"Car": "Van", "Pedestrian": "Person_sitting"}
HEIGHT = {"easy": 40, "moderate": 25, "hard": 25}
OCCLUSION = {"easy": 0, "moderate": 1, "hard": 2}
TRUNCATION = {"easy": 0.15, "moderate": 0.3, "hard": 0.5}


def size(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def iou(a, b):
    both = shared(a, b)
    return both / (size(a) + size(b) - both) if both else 0.0


def counts_in(one, level):
    _, truncated, occluded, box = one
    return (
        occluded <= OCCLUSION[level] and truncated <= TRUNCATION[level] and box[3] - box[1] > HEIGHT[level]
    )  # so that exactly 40 or 25 px are too low


def too_low(box, level):
    return abs(box[3] - box[1]) < HEIGHT[level]


def judge(frame, name, level, score):
    """Scores of the hits, and the number of false positives; `score` None is the first pass, with every detection."""
    objects, found = frame
    taken, hits = set(), []
    for one in objects:
        if one[0] not in (name, ALIKE.get(name)):
            continue
        pick = None
        for d, (kind, box, confidence) in enumerate(found):
            small = too_low(box, level)
            if d in taken or (kind != name and not small) or not iou(box, one[3]) > LEAST_IOU[name]:
                continue
            if score is None:
                if pick is None or confidence > found[pick][2]:
                    pick = d
            elif confidence >= score:
                worse = pick is not None and (
                    too_low(found[pick][1], level) or iou(box, one[3]) > iou(found[pick][1], one[3])
                )
                if pick is None or (not small and worse):
                    pick = d
        if pick is not None:
            taken.add(pick)
            if one[0] == name and counts_in(one, level) and not too_low(found[pick][1], level):
                hits.append(found[pick][2])
    false = 0
    for d, (kind, box, confidence) in enumerate(found):
        if kind == name and d not in taken and score is not None and confidence >= score and not too_low(box, level):
            areas = [one[3] for one in objects if one[0] == "DontCare"]
            false += not any(shared(box, area) / size(box) > LEAST_IOU[name] for area in areas if shared(box, area))
    return hits, false


def slow_precisions(frames, name, level):
    total = sum(one[0] == name and counts_in(one, level) for objects, _ in frames for one in objects)
    if total == 0:
        return [math.nan] * 41
    scores = sorted((s for frame in frames for s in judge(frame, name, level, None)[0]), reverse=True)
    wanted, recall = [], 0.0
    for k, score in enumerate(scores):
        here, there = (k + 1) / total, (k + 2) / total
        if k < len(scores) - 1 and there - recall < recall - here:
            continue  # the next score's recall lies nearer to the wanted one
        wanted.append(score)
        recall += 1 / 40
    curve = []
    for score in wanted:
        judged = [judge(frame, name, level, score) for frame in frames]
        hits, false = sum(len(hits) for hits, _ in judged), sum(false for _, false in judged)
        curve.append(hits / (hits + false) if hits else 0.0)
    curve += [0.0] * (41 - len(curve))
    return [max(curve[k:]) for k in range(41)]


def slow_average_precision(frames, name):
    """Area under the interpolated curve of all objects of a class; every score is a point of the curve."""
    total = sum(one[0] == name for objects, _ in frames for one in objects)
    if total == 0:
        return math.nan
    points = []
    for score in sorted({s for _, found in frames for kind, _, s in found if kind == name}, reverse=True):
        hits = false = 0
        for objects, found in frames:
            taken = set()
            for box, _ in sorted(((b, s) for k, b, s in found if k == name and s >= score), key=lambda one: -one[1]):
                for kind in (name, ALIKE.get(name)):
                    free = [g for g, one in enumerate(objects) if one[0] == kind and g not in taken]
                    near = [g for g in free if iou(box, objects[g][3]) > LEAST_IOU[name]]
                    if near:
                        taken.add(max(near, key=lambda g: iou(box, objects[g][3])))
                        hits += kind == name
                        break
                else:
                    areas = [one[3] for one in objects if one[0] == "DontCare" and shared(box, one[3])]
                    false += not any(shared(box, area) / size(box) > LEAST_IOU[name] for area in areas)
        points.append((hits / total, hits / (hits + false) if hits else 0.0))
    area = before = 0.0
    for recall, _ in points:
        area += (recall - before) * max(precision for r, precision in points if r >= recall)
        before = recall
    return area


# ---------------------------------------------------------------- frames


def packed(frames):
    """What the package takes."""
    truths, found = [], []
    for objects, results in frames:
        columns = np.full((len(objects), 14), -1.0)
        for row, (_, truncated, occluded, box) in zip(columns, objects, strict=True):
            row[0], row[1], row[3:7] = truncated, occluded, box
        truths.append(Objects(tuple(one[0] for one in objects), columns))
        boxes = np.array([box for _, box, _ in results], float).reshape(-1, 4)
        found.append(detections([kind for kind, _, _ in results], boxes, np.array([s for *_, s in results], float)))
    return truths, found


@cache
def real_labels():
    frames = []
    for path in sorted(LABELS.glob("*.txt")):
        rows = [line.split() for line in path.read_text().splitlines()]
        frames.append([(row[0], float(row[1]), int(row[2]), [float(side) for side in row[4:8]]) for row in rows])
    return frames


def box_of(rng, height=(12, 120)):
    h = float(np.round(rng.uniform(*height), rng.choice([0, 2])))
    w, x, y = h * rng.uniform(0.4, 2), rng.uniform(0, 300), rng.uniform(0, 100)
    return [x, y, x + w, y + h]


def synthetic_labels(rng):
    """Crowded frames, with every type, difficulty and the heights 25 and 40 themselves."""
    kinds = ["Car", "Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "Truck", "DontCare"]
    frames = []
    for _ in range(rng.integers(1, 12)):
        objects = []
        for kind in rng.choice(kinds, rng.integers(0, 8)):
            box = box_of(rng)
            if rng.random() < 0.2:
                box[1], box[3] = 10.0, 10.0 + rng.choice([25, 40])
            rest = (-1.0, -1) if kind == "DontCare" else (rng.choice([0, 0.15, 0.2, 0.3, 0.4, 0.9]), rng.integers(0, 4))
            objects.append((str(kind), *rest, box))
        frames.append(objects)
    return frames


def found_in(rng, objects):
    """Detections of an imperfect net: jittered, doubled, misnamed, missing, invented, some in DontCare areas."""
    found = []
    steps = rng.choice([4, 20, 10**6])  # few steps make ties

    def add(kind, box, jitter):
        side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        moved = np.array(box) + rng.normal(0, jitter, 4) * side
        if moved[2] > moved[0] and moved[3] > moved[1]:
            score = float(rng.integers(-steps, steps) / steps)
            found.append((str(kind), moved.tolist(), score))

    for kind, _, _, box in objects:
        if kind == "DontCare" and rng.random() < 0.5:
            width, height = box[2] - box[0], box[3] - box[1]
            add(rng.choice(CLASSES), [box[0], box[1], box[0] + 0.6 * width, box[1] + 0.9 * height], 0.1)
        elif rng.random() < 0.8:
            like = {"Van": "Car", "Truck": "Car", "Person_sitting": "Pedestrian"}.get(kind, kind)
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                name = like if like in CLASSES and rng.random() < 0.85 else rng.choice(CLASSES)
                add(name, box, rng.choice([0, 0.02, 0.06, 0.15]))
    for _ in range(rng.integers(0, 4)):
        add(rng.choice(CLASSES), box_of(rng), 0)
    order = rng.permutation(len(found))
    return [found[i] for i in order]


def assert_equal_to_the_loops(frames):
    truths, found = packed(frames)
    for name in CLASSES:
        for level in LEVELS:
            curve = precisions(truths, found, name, DIFFICULTIES[level])
            expected = slow_precisions(frames, name, level)
            assert curve.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
            assert ap11(curve) == pytest.approx(sum(expected[0:41:4]) / 11, abs=1e-6, nan_ok=True)
            assert ap40(curve) == pytest.approx(sum(expected[1:]) / 40, abs=1e-6, nan_ok=True)
        plain = average_precision(truths, found, name)
        assert plain == pytest.approx(slow_average_precision(frames, name), abs=1e-6, nan_ok=True)


@pytest.mark.shared_data
@pytest.mark.parametrize("block", range(10))
def test_on_real_labels_it_equals_the_loops_in_200_random_cases(block):
    if not LABELS.is_dir():
        pytest.skip("no ../shared/data/kitti_tiny")
    for case in range(20):
        rng = np.random.default_rng([7, block, case])
        labels = [real_labels()[i] for i in rng.choice(75, 10, replace=False)]
        assert_equal_to_the_loops([(objects, found_in(rng, objects)) for objects in labels])


@pytest.mark.shared_data
def test_on_all_real_labels_it_equals_the_loops():
    """Here Car has more than 40 objects, so that thresholds are left out."""
    if not LABELS.is_dir():
        pytest.skip("no ../shared/data/kitti_tiny")
    rng = np.random.default_rng(8)
    assert_equal_to_the_loops([(objects, found_in(rng, objects)) for objects in real_labels()])


@pytest.mark.parametrize("block", range(10))
def test_on_crowded_synthetic_frames_it_equals_the_loops_in_200_random_cases(block):
    for case in range(20):
        rng = np.random.default_rng([9, block, case])
        assert_equal_to_the_loops([(objects, found_in(rng, objects)) for objects in synthetic_labels(rng)])


# ---------------------------------------------------------------- by hand

SHAPE = [0.0, 0.0, 50.0, 50.0]  # counts at every difficulty
FAR = [500.0, 0.0, 550.0, 50.0]


def car(box=SHAPE, truncated=0.0, occluded=0, kind="Car"):
    return kind, truncated, occluded, box


def curve_of(*frames, name="Car", level="moderate"):
    """The points that are not 0; as many as hits have scores."""
    curve = precisions(*packed(frames), name, DIFFICULTIES[level])
    assert curve.tolist() == pytest.approx(slow_precisions(frames, name, level), nan_ok=True)
    return [point for point in curve.tolist() if point]


def plain(*frames, name="Car"):
    assert average_precision(*packed(frames), name) == pytest.approx(slow_average_precision(frames, name), nan_ok=True)
    return average_precision(*packed(frames), name)


def test_one_object_found_is_one_recall_point_of_41():
    truths, found = packed([([car()], [("Car", SHAPE, 0.9)])])
    curve = precisions(truths, found, "Car", DIFFICULTIES["easy"])
    assert curve.tolist() == [1.0] + 40 * [0.0]
    assert (ap11(curve), ap40(curve)) == (1 / 11, 0)
    assert average_precision(truths, found, "Car") == 1


def test_eighty_objects_found_are_all_of_the_curve():
    """Threshold k is nearest to recall k/40: after the first score every second is left out."""
    frames = [([car()], [("Car", SHAPE, 1 - i / 100)]) for i in range(80)]
    curve = precisions(*packed(frames), "Car", DIFFICULTIES["easy"])
    assert (ap11(curve), ap40(curve)) == (1, 1)


def test_thresholds_are_the_scores_nearest_to_the_wanted_recalls_and_the_last():
    """Of 120 objects recall k/40 is reached by hit 3k: hit 1 is the first, hit 2 is left out for 3; 4 would be for 6,
    were it not the last."""
    assert recall_thresholds(np.array([0.6, 0.9, 0.7, 0.8]), 120).tolist() == [0.9, 0.7, 0.6]
    assert recall_thresholds(np.array([]), 120).tolist() == []


def test_a_false_positive_above_half_the_hits_halves_what_is_left_of_it():
    """Hits at 0.9 and 0.5, between them a false positive: 1/1 at the first threshold, 2/3 at the second."""
    frame = ([car(), car(FAR)], [("Car", SHAPE, 0.9), ("Car", [200, 0, 260, 60], 0.7), ("Car", FAR, 0.5)])
    assert curve_of(frame) == pytest.approx([1, 2 / 3])
    assert plain(frame) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_precision_never_falls_to_the_left():
    """1/2 at the first threshold, where the false positive has the better score, 2/3 at the second."""
    frame = ([car(), car(FAR)], [("Car", [200, 0, 260, 60], 0.95), ("Car", SHAPE, 0.9), ("Car", FAR, 0.5)])
    assert curve_of(frame) == pytest.approx([2 / 3, 2 / 3])
    assert plain(frame) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        (car([0, 0, 50, 40]), "moderate hard"),  # at the least height of easy: ignored there
        (car([0, 0, 50, 40.01]), "easy moderate hard"),
        (car([0, 0, 50, 25]), ""),
        (car([0, 0, 50, 25.01]), "moderate hard"),
        (car(occluded=1), "moderate hard"),
        (car(occluded=2), "hard"),
        (car(occluded=3), ""),
        (car(truncated=0.15), "easy moderate hard"),
        (car(truncated=0.16), "moderate hard"),
        (car(truncated=0.3), "moderate hard"),
        (car(truncated=0.5), "hard"),
        (car(truncated=0.51), ""),
        (car(kind="Van"), ""),
        (car(kind="Truck"), ""),
    ],
    ids=str,
)
def test_height_occlusion_and_truncation_say_at_which_difficulty_an_object_counts(one, counts):
    """Where it does, 80 of them missed beside 80 others found halve recall; where it alone does not, AP is NaN."""
    for level in LEVELS:
        counts_here = level in counts.split()
        alone = precisions(*packed([([one], [])]), "Car", DIFFICULTIES[level])
        assert np.isnan(alone).all() != counts_here
        frames = [([one], [])] * 80 + [([car(FAR)], [("Car", FAR, 0.5)])] * 80
        assert ap40(precisions(*packed(frames), "Car", DIFFICULTIES[level])) == (0.5 if counts_here else 1)


@pytest.mark.parametrize(
    ("ignored", "level"),
    [
        (car(FAR, occluded=1), "easy"),
        (car(FAR, truncated=0.2), "easy"),
        (car(FAR, kind="Van"), "moderate"),
        (car(FAR, 0.9, 3, kind="Van"), "easy"),
    ],
    ids=str,
)
def test_a_detection_of_an_ignored_object_is_neither_hit_nor_false(ignored, level):
    found = [("Car", SHAPE, 0.5), ("Car", FAR, 0.9)]
    assert curve_of(([car(), ignored], found), level=level) == [1]
    assert curve_of(([car()], found), level=level) == [1 / 2]
    twice = [*found, ("Car", FAR, 0.8)]  # one is taken, the other false
    assert curve_of(([car(), ignored], twice), level=level) == [1 / 2]


def test_neighbours_are_van_for_car_and_person_sitting_for_pedestrian_and_no_others():
    for name, neighbour in (("Car", "Van"), ("Pedestrian", "Person_sitting")):
        found = [(name, SHAPE, 0.5), (name, FAR, 0.9)]
        assert curve_of(([car(kind=name), car(FAR, kind=neighbour)], found), name=name) == [1]
        assert plain(([car(kind=name), car(FAR, kind=neighbour)], found), name=name) == 1
    for name, other in (("Car", "Truck"), ("Cyclist", "Pedestrian"), ("Pedestrian", "Cyclist")):
        found = [(name, SHAPE, 0.5), (name, FAR, 0.9)]
        assert curve_of(([car(kind=name), car(FAR, kind=other)], found), name=name) == [1 / 2]
        assert plain(([car(kind=name), car(FAR, kind=other)], found), name=name) == 1 / 2


@pytest.mark.parametrize(
    ("name", "width", "left"),
    [("Car", 35, 1 / 2), ("Car", 36, 1), ("Pedestrian", 25, 1 / 2), ("Pedestrian", 26, 1)],
)
def test_dontcare_absorbs_detections_of_which_more_than_the_least_iou_lies_in_it(name, width, left):
    """Of 50 px of width so many lie in the area; exactly 0.7 or 0.5 is not more."""
    area = car([500.0, 0.0, 500.0 + width, 400.0], kind="DontCare")
    found = [(name, SHAPE, 0.5), (name, FAR, 0.9)]
    assert curve_of(([car(kind=name), area], found), name=name) == [left]
    assert plain(([car(kind=name), area], found), name=name) == left


def test_dontcare_absorbs_any_number_but_takes_no_hit_away():
    area = car([0.0, 0.0, 600.0, 600.0], kind="DontCare")
    found = [("Car", SHAPE, 0.5), ("Car", FAR, 0.9), ("Car", FAR, 0.8), ("Car", [300, 300, 350, 350], 0.7)]
    assert curve_of(([area, car()], found)) == [1]
    assert plain(([area, car()], found)) == 1


@pytest.mark.parametrize(("level", "low", "tall"), [("easy", 39.9, 40), ("moderate", 24.9, 25), ("hard", 24.9, 25)])
def test_a_detection_below_the_least_height_is_ignored_and_one_at_it_is_not(level, low, tall):
    for height, left in ((low, 1), (tall, 1 / 2)):
        found = [("Car", SHAPE, 0.5), ("Car", [500, 0, 600, height], 0.9)]
        assert curve_of(([car()], found), level=level) == [left]
    assert plain(([car()], [("Car", SHAPE, 0.5), ("Car", [500, 0, 600, low], 0.9)])) == 1 / 2


@pytest.mark.parametrize("kind", ["Car", "Pedestrian"])
def test_an_object_whose_only_detection_is_too_low_is_no_hit(kind):
    """40.1 px found as 39 px: IoU 0.97, below easy's 40. The far car is the hit, and the only score."""
    one, found = car([0.0, 0.0, 50.0, 40.1]), (kind, [0.0, 0.0, 50.0, 39.0], 0.9)
    assert curve_of(([one, car(FAR)], [found, ("Car", FAR, 0.5)]), level="easy") == [1]
    assert curve_of(([one], [found]), level="easy") == []
    # A valid detection is preferred to it at a threshold, though it overlaps less; in the first pass it is not.
    valid = ("Car", [0.0, 0.0, 50.0, 45.0], 0.5)
    assert curve_of(([one, car(FAR)], [found, valid, ("Car", FAR, 0.4)]), level="easy") == [1]


@pytest.mark.parametrize(("width", "points"), [(35.0, []), (35.1, [1])])
def test_the_iou_must_exceed_its_least(width, points):
    assert curve_of(([car()], [("Car", [0, 0, width, 50], 0.9)])) == points
    assert plain(([car()], [("Car", [0, 0, width, 50], 0.9)])) == len(points)


def test_a_second_detection_of_an_object_is_false():
    frame = ([car()], [("Car", SHAPE, 0.9), ("Car", [0, 0, 50, 49], 0.9)])
    assert curve_of(frame) == [1 / 2]
    assert plain(frame) == 1 / 2  # equal scores are one point of the curve
    assert plain(([car()], [("Car", SHAPE, 0.9), ("Car", [0, 0, 50, 49], 0.8)])) == 1


def test_one_detection_is_one_hit_however_many_objects_it_overlaps():
    frame = ([car(), car([0, 0, 50, 49])], [("Car", SHAPE, 0.9)])
    assert curve_of(frame) == [1]
    assert plain(frame) == 1 / 2


def test_a_hit_s_score_is_the_best_but_at_a_threshold_the_largest_overlap_wins():
    """First pass: A takes the better score, which overlaps both, and B gets none, for the other overlaps A alone; with
    the far car two scores. At the second A takes what it overlaps most, and B the other: three hits, nothing false."""
    a, b = car([0, 0, 100, 100]), car([0, 18, 100, 118])  # IoU 82/118 = 0.695
    both, only_a = ("Car", [0, 9, 100, 109], 0.9), ("Car", [0, 0, 100, 100], 0.6)
    assert curve_of(([a, b, car(FAR)], [both, only_a, ("Car", FAR, 0.5)])) == [1, 1]
    assert curve_of(([b, a, car(FAR)], [both, only_a, ("Car", FAR, 0.5)])) == [1, 1, 1]


def test_a_threshold_with_neither_hit_nor_false_positive_has_precision_0():
    """At 0.9 the van takes the car's only detection, which it overlaps more than the one it took in the first pass;
    that one, free now, lies in DontCare."""
    van, one = car([0, 0, 100, 100], kind="Van"), car([0, 15, 100, 115])
    area = car([0, -100, 100, 92], kind="DontCare")
    found = [("Car", [0, 7, 100, 107], 0.9), ("Car", [0, -10, 100, 90], 0.95)]
    curve = precisions(*packed([([van, one, area], found)]), "Car", DIFFICULTIES["easy"])
    assert not curve.any()
    assert slow_precisions([([van, one, area], found)], "Car", "easy") == 41 * [0]


def test_no_detections_are_0_and_no_objects_nan():
    truths, found = packed([([car()], [])])
    assert not precisions(truths, found, "Car", DIFFICULTIES["easy"]).any()
    assert average_precision(truths, found, "Car") == 0
    for name, frames in (("Cyclist", (truths, found)), ("Car", ([], []))):
        assert np.isnan(precisions(*frames, name, DIFFICULTIES["easy"])).all()
        assert math.isnan(average_precision(*frames, name))


def test_labels_are_no_detections():
    truths, _ = packed([([car()], [])])
    with pytest.raises(ValueError, match="detections have no scores"):
        precisions(truths, truths, "Car", DIFFICULTIES["easy"])
