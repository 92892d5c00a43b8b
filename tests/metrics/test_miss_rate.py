"""The log-average miss rate is the published one: by hand, by plain loops, and whatever the order or the scores."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from det_distill.metrics.miss_rate import FPPI, log_average_miss_rate, match

POINTS = [10 ** (k / 4 - 2) for k in range(9)]


def boxes(*rows: tuple) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def sample(truth: list, ignored: list, found: list) -> dict:
    """Boxes with their labels: (x1, y1, x2, y2, label), and a score at the end of a found one."""

    def instances(rows: list) -> InstanceData:
        table = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1 if rows else 6)
        return InstanceData(bboxes=table[:, :4], labels=table[:, 4].long())

    made = DetDataSample(gt_instances=instances(truth), ignored_instances=instances(ignored))
    made.pred_instances = instances(found)
    made.pred_instances.scores = torch.tensor([row[5] for row in found], dtype=torch.float64)
    return made.to_dict()


def evaluate(samples: list, classes: tuple = ("person",), asked: str | list | None = None, **other) -> dict:
    metric = METRICS.build(dict(type="MissRateMetric", classes=asked, **other))
    metric.dataset_meta = dict(classes=classes)
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


# ---------------------------------------------------------------- by hand


def test_the_points_are_nine_from_a_hundredth_to_one() -> None:
    assert FPPI.tolist() == pytest.approx(POINTS, rel=1e-15)
    assert [FPPI[0], FPPI[4], FPPI[8]] == [0.01, 0.1, 1.0]  # exactly, for 1 in 10 images is 0.1 exactly


def test_by_hand() -> None:
    # 10 images, 4 objects; by falling score: hit, miss, hit, miss, hit. FPPI after each: 0, .1, .1, .2, .2.
    # Missed: 1, then .75, .75, .5, .5, .25. At .01 to .056 (4 points): .75. At .1 and .178: .5. At .316, .562, 1: .25.
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    rate = log_average_miss_rate(scores, np.array([1, 0, 1, 0, 1]), images=10, objects=4)
    assert rate == pytest.approx((0.75**4 * 0.5**2 * 0.25**3) ** (1 / 9), rel=1e-12)


def test_a_curve_that_starts_above_a_point_misses_all_there() -> None:
    # One image: the best detection is false, so the curve has its first point at FPPI 1. Eight points miss all.
    rate = log_average_miss_rate(np.array([0.9, 0.8]), np.array([0, 1]), images=1, objects=2)
    assert rate == pytest.approx(0.5 ** (1 / 9), rel=1e-12)


def test_one_false_positive_in_a_hundred_images_is_at_the_first_point() -> None:
    rates = [
        log_average_miss_rate(np.array([0.9, 0.8]), np.array([0, 1]), images=images, objects=2) for images in (99, 100)
    ]
    assert rates == pytest.approx([0.5 ** (8 / 9), 0.5], rel=1e-12)


@pytest.mark.parametrize(("empty", "points"), [(99, 9), (98, 8)], ids=str)
def test_images_without_anything_count_as_images(empty: int, points: int) -> None:
    one = sample([(0, 0, 10, 10, 0)], [], [(50, 50, 60, 60, 0, 0.9), (0, 0, 10, 10, 0, 0.8)])
    rate = evaluate([one, *[sample([], [], [])] * empty])["miss_rate/MR-2"]
    assert rate == pytest.approx(1e-10 ** (points / 9), rel=1e-9)


@pytest.mark.parametrize(("found", "rate"), [([], 1.0), ([(0, 0, 10, 10, 0, 0.5)], 1e-10)], ids=["nothing", "all"])
def test_nothing_found_is_one_and_everything_is_the_floor(found: list, rate: float) -> None:
    # The floor is the toolbox's: log 0 has no mean.
    assert evaluate([sample([(0, 0, 10, 10, 0)], [], found)])["miss_rate/MR-2"] == pytest.approx(rate)


def test_the_best_score_takes_the_box_and_the_second_is_false() -> None:
    found = boxes((0, 0, 10, 8), (0, 0, 10, 10))
    assert match(found, np.array([0.9, 0.8]), boxes((0, 0, 10, 10)), boxes()).tolist() == [1, 0]
    assert match(found, np.array([0.8, 0.9]), boxes((0, 0, 10, 10)), boxes()).tolist() == [0, 1]


def test_a_detection_turns_to_the_next_box_where_its_best_is_taken() -> None:
    # VOC's protocol would call the second a duplicate: its best box is the first object, IoU 1; 9 / 11 with the other.
    truth = boxes((0, 0, 10, 10), (0, 1, 10, 11))
    found = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    assert match(found, np.array([0.9, 0.8]), truth, boxes()).tolist() == [1, 1]


@pytest.mark.parametrize(("second", "verdicts"), [((0, 0, 10, 10), [1, 1]), ((4, 0, 14, 10), [1, 0])], ids=str)
def test_of_boxes_overlapped_equally_the_last_is_taken_as_in_the_toolbox(second: tuple, verdicts: list) -> None:
    # The first detection overlaps both by 2 / 3 and takes the second one; who comes for that finds it taken.
    truth = boxes((0, 0, 10, 10), (4, 0, 14, 10))
    found = boxes((2, 0, 12, 10), second)
    assert match(found, np.array([0.9, 0.8]), truth, boxes()).tolist() == verdicts


@pytest.mark.parametrize(
    ("box", "verdict"),
    [
        ((0, 0, 10, 10), 1),
        ((0, 0, 10, 5), 1),  # IoU .5 is enough
        ((0, 0, 10, 4.9), 0),
        ((100, 0, 110, 10), -1),  # IoU .01 with the ignored region, but all of the detection lies in it
        ((95, 0, 105, 10), -1),  # half of it
        ((94, 0, 104, 10), 0),  # four tenths
        ((50, 50, 50, 60), 0),  # no area
    ],
    ids=str,
)
def test_half_is_enough_of_the_union_or_of_the_detection_in_an_ignored_region(box: tuple, verdict: int) -> None:
    truth, region = boxes((0, 0, 10, 10)), boxes((100, 0, 200, 100))
    assert match(boxes(box), np.ones(1), truth, region).tolist() == [verdict]


def test_an_ignored_region_absorbs_many_but_yields_to_an_object() -> None:
    crowd, person = boxes((0, 0, 100, 100)), boxes((0, 0, 10, 10))
    found = boxes((50, 50, 60, 60), (50, 50, 60, 60), (0, 0, 10, 10), (0, 0, 10, 10))
    assert match(found, np.array([4.0, 3, 2, 1]), person, crowd).tolist() == [-1, -1, 1, -1]


def test_classes_are_judged_apart_and_one_without_objects_is_no_part_of_the_mean() -> None:
    one = sample(
        [(0, 0, 9, 9, 0), (20, 0, 29, 9, 1)], [(40, 0, 49, 9, 2)], [(0, 0, 9, 9, 0, 0.5), (0, 0, 9, 9, 2, 0.9)]
    )
    rates = evaluate([one], classes=("person", "rider", "dog"))
    assert rates == pytest.approx(
        {
            "miss_rate/MR-2": (1e-10 + 1) / 2,
            "miss_rate/MR-2_person": 1e-10,
            "miss_rate/MR-2_rider": 1.0,
            "miss_rate/MR-2_dog": math.nan,
        },
        nan_ok=True,
    )
    for name in ("rider", ["rider"]):
        assert evaluate([one], classes=("person", "rider", "dog"), asked=name) == {"miss_rate/MR-2": 1.0}


def test_an_ignored_instance_absorbs_its_own_class_alone() -> None:
    # Two images, one object each, found by the second-best score; the best one lies in a region of its class, or not.
    def rate(label: int) -> float:
        truth = [(0, 0, 9, 9, 0)]
        found = [(50, 0, 59, 9, 0, 0.9), (0, 0, 9, 9, 0, 0.8)]
        one = sample(truth, [(50, 0, 99, 99, label)], found)
        return evaluate([one, sample(truth, [], [])], classes=("person", "dog"), asked="person")["miss_rate/MR-2"]

    assert rate(0) == pytest.approx(0.5, rel=1e-12)  # every point: one of two found
    assert rate(1) == pytest.approx(0.5 ** (2 / 9), rel=1e-12)  # FPPI .5: only the points .562 and 1


@pytest.mark.parametrize(
    ("height", "counts"), [(49, False), (50, True), (74.5, True), (75, False)], ids=["low", "least", "most", "high"]
)
def test_objects_of_other_heights_are_ignored(height: float, counts: bool) -> None:
    inside, other = (0, 0, 30, 60, 0), (100, 0, 130, height, 0)
    one = sample([inside, other], [], [(*inside, 0.9), (*other, 0.95)])
    unseen = sample([inside, other], [], [(*inside, 0.9)])
    assert evaluate([one], height_range=(50, 75))["miss_rate/MR-2"] == pytest.approx(1e-10)
    rate = evaluate([unseen], height_range=(50, 75))["miss_rate/MR-2"]
    assert rate == pytest.approx(0.5 if counts else 1e-10)


@pytest.mark.parametrize(("height", "dropped"), [(39.5, True), (40, False), (93.5, False), (93.75, True)], ids=str)
def test_detections_far_from_the_range_are_dropped(height: float, dropped: bool) -> None:
    # (50, 75) widened by 1.25 is (40, 93.75). One image, one object found, one false detection of a better score.
    person = (0, 0, 30, 60, 0)
    one = sample([person], [], [(*person, 0.8), (200, 0, 230, height, 0, 0.9)])
    rate = evaluate([one], height_range=(50, 75))["miss_rate/MR-2"]
    assert rate == pytest.approx(1e-10 if dropped else 1e-10 ** (1 / 9))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(asked="persn"), r"MissRateMetric\.classes='persn' is none of 'person', did you mean 'person'\?"),
        (dict(height_range=(75, 50)), r"height_range=\(75, 50\); two heights in pixels"),
        (dict(iou_thr=50), "iou_thr=50; a number above 0 and up to 1"),
    ],
    ids=["class", "heights", "iou"],
)
def test_wrong_settings_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate([sample([], [], [])], **wrong)


def test_samples_without_ground_truth_name_the_step_that_lacks() -> None:
    one = sample([], [], []) | dict(gt_instances={}, ignored_instances={})
    with pytest.raises(ValueError, match=r"no ground truth.*LoadAnnotations.*after Resize"):
        evaluate([one])


# ---------------------------------------------------------------- by plain loops

side = st.integers(0, 6)
# Few places and sizes, so that boxes meet and overlaps tie at the threshold.
rows = st.lists(st.tuples(side, side, st.integers(1, 4), st.integers(1, 4)), max_size=5)
scenes = st.lists(st.tuples(rows, rows, rows), min_size=1, max_size=4)


def overlap(one: tuple, other: tuple, of_one: bool) -> Fraction:
    pixels, others = (
        {(x, y) for x in range(b[0], b[0] + b[2]) for y in range(b[1], b[1] + b[3])} for b in (one, other)
    )
    return Fraction(len(pixels & others), len(pixels if of_one else pixels | others))


def by_hand(scenes: list, scores: list) -> float:
    """The protocol as its authors tell it, on sets of pixels; shares no code with the metric."""
    verdicts, objects = [], 0
    for i, (truth, ignored, found) in enumerate(scenes):
        free = list(range(len(truth)))
        objects += len(truth)
        for d in sorted(range(len(found)), key=lambda d: -scores[i][d]):
            best = None
            for g in free:
                value = overlap(found[d], truth[g], of_one=False)
                if value >= Fraction(1, 2) and (best is None or value >= best[0]):
                    best = (value, g)
            if best:
                free.remove(best[1])
                verdicts.append((scores[i][d], "hit"))
            elif not any(overlap(found[d], region, of_one=True) >= Fraction(1, 2) for region in ignored):
                verdicts.append((scores[i][d], "false"))
    if not objects:
        return math.nan
    logs = []
    for point in POINTS:
        hits = false = best = 0
        for _, verdict in sorted(verdicts, reverse=True):
            hits += verdict == "hit"
            false += verdict == "false"
            if false / len(scenes) <= point + 1e-12:
                best = hits
        logs.append(math.log(max(1e-10, 1 - best / objects)))
    return math.exp(sum(logs) / 9)


def samples(scenes: list, scores: list) -> list[dict]:
    def corners(rows: list) -> list:
        return [(x, y, x + w, y + h, 0) for x, y, w, h in rows]

    return [
        sample(corners(truth), corners(ignored), [(*b, s) for b, s in zip(corners(found), own, strict=True)])
        for (truth, ignored, found), own in zip(scenes, scores, strict=True)
    ]


def distinct(scenes: list, random) -> list[list[float]]:
    pool = list(range(1, 1 + sum(len(found) for _, _, found in scenes)))
    random.shuffle(pool)
    return [[pool.pop() / 100 for _ in found] for _, _, found in scenes]


@settings(deadline=None, max_examples=100)
@given(scenes=scenes, random=st.randoms(use_true_random=False))
def test_equals_plain_loops_over_pixels(scenes: list, random) -> None:
    scores = distinct(scenes, random)
    rate = evaluate(samples(scenes, scores))["miss_rate/MR-2"]
    assert rate == pytest.approx(by_hand(scenes, scores), rel=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(scenes=scenes, random=st.randoms(use_true_random=False))
def test_order_of_images_and_monotone_scores_have_no_say(scenes: list, random) -> None:
    scores = distinct(scenes, random)
    told = evaluate(samples(scenes, scores))["miss_rate/MR-2"]
    order = list(range(len(scenes)))
    random.shuffle(order)
    moved = [[math.exp(3 * s) - 7 for s in scores[i]] for i in order]
    again = evaluate(samples([scenes[i] for i in order], moved))["miss_rate/MR-2"]
    assert again == pytest.approx(told, rel=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(scenes=scenes, random=st.randoms(use_true_random=False))
def test_a_false_positive_of_lowest_score_never_matters(scenes: list, random) -> None:
    scores = distinct(scenes, random)
    far = [(truth, ignored, [*found, (50, 50, 2, 2)]) for truth, ignored, found in scenes]
    told = evaluate(samples(scenes, scores))["miss_rate/MR-2"]
    lower = evaluate(samples(far, [[*own, 0.001] for own in scores]))["miss_rate/MR-2"]
    assert lower == pytest.approx(told, rel=1e-12, nan_ok=True)
