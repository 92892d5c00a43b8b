"""FasterCocoMetric reports what CocoMetric reports, and leaves MMDetection as it was."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import coco_metric
from mmdet.registry import METRICS
from mmengine.structures import InstanceData
from pycocotools.cocoeval import COCOeval

import det_distill.metrics.fast_coco  # noqa: F401

CLASSES = ("a", "b", "c")


@pytest.fixture
def fast() -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval, an optional package, is not installed")


def samples(names: bool = True, images: int = 12, seed: int = 0) -> list[dict]:
    """Images with objects, crowds, near misses, equal scores, and some without one or the other."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(images):
        count = int(rng.integers(0, 9))
        corner, size = rng.uniform(0, 300, (count, 2)), rng.uniform(8, 200, (count, 2))
        truth = np.concatenate([corner, corner + size], axis=1)
        labels = rng.integers(0, 3, count)
        found = np.concatenate([truth + rng.normal(0, 6, truth.shape), truth + rng.normal(0, 40, truth.shape)])[i % 4 :]
        pred = InstanceData(
            bboxes=torch.from_numpy(found).float(),
            labels=torch.from_numpy(np.concatenate([labels, labels])[i % 4 :]),
            scores=torch.from_numpy(rng.integers(1, 9, len(found)) / 10),
        )
        instances = [
            dict(bbox=box.tolist(), bbox_label=int(label), ignore_flag=int(rng.random() < 0.15))
            for box, label in zip(truth, labels, strict=True)
        ]
        made.append(dict(img_id=f"photo_{i}" if names else 7 * i, ori_shape=(500, 500), instances=instances))
        made[-1]["pred_instances"] = pred
    return made


def evaluate(kind: str, batch: list[dict], epochs: int = 1, **settings) -> dict:
    metric = METRICS.build(dict(type=kind, **settings))
    metric.dataset_meta = dict(classes=CLASSES)
    for _ in range(epochs):
        for one in batch:
            metric.process({}, [one])
        told = metric.evaluate(len(batch))
    return told


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("names", [True, False], ids=["names", "numbers"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(classwise=True),
        dict(metric="proposal"),
        dict(metric=["bbox", "proposal"], proposal_nums=(1, 3, 10)),
        dict(metric_items=["mAP_50", "AR@100", "AR@1000", "AR_s@1000", "AR_l@1000"]),
    ],
    ids=str,
)
def test_reports_what_cocometric_reports(settings: dict, names: bool) -> None:
    plain, faster = (evaluate(kind, samples(names), **settings) for kind in ("CocoMetric", "FasterCocoMetric"))
    assert faster == plain
    assert any(0 < value < 1 for value in plain.values())


@pytest.mark.usefixtures("fast")
def test_ap_is_at_a_hundred_detections_an_image_as_in_coco() -> None:
    (one,) = samples(images=1)
    box = [100.0, 100.0, 200.0, 200.0]
    one["instances"] = [dict(bbox=box, bbox_label=0, ignore_flag=0)]
    far = torch.tensor([[300.0, 300, 310, 310]] * 100 + [box])
    scores = torch.linspace(1, 0.1, 101)
    one["pred_instances"] = InstanceData(bboxes=far, labels=torch.zeros(101, dtype=torch.long), scores=scores)
    plain, faster = (evaluate(kind, [one]) for kind in ("CocoMetric", "FasterCocoMetric"))
    # The box comes 101st: lost at 100 detections, and the other numbers are CocoMetric's, at 1000: 1 / 101.
    assert (plain["coco/bbox_mAP"], plain["coco/bbox_mAP_50"]) == (0, 0.01)
    assert faster == plain


@pytest.mark.usefixtures("fast")
def test_a_second_validation_counts_afresh() -> None:
    batch = samples()
    assert evaluate("FasterCocoMetric", batch, epochs=2) == evaluate("CocoMetric", batch)


@pytest.mark.usefixtures("fast")
def test_reads_an_ann_file_with_its_own_ids(tmp_path: Path) -> None:
    batch = samples(names=False)
    truth = [(one["img_id"], i) for one in batch for i in one["instances"]]
    path = tmp_path / "truth.json"
    boxes = [(*i["bbox"][:2], i["bbox"][2] - i["bbox"][0], i["bbox"][3] - i["bbox"][1]) for _, i in truth]
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=one["img_id"], width=500, height=500) for one in batch],
                categories=[dict(id=10 * (k + 1), name=name) for k, name in enumerate(CLASSES)],
                annotations=[
                    dict(id=k, image_id=img, bbox=box, area=box[2] * box[3], iscrowd=i["ignore_flag"])
                    | dict(category_id=10 * (i["bbox_label"] + 1))
                    for k, ((img, i), box) in enumerate(zip(truth, boxes, strict=True), 1)
                ],
            )
        )
    )
    plain, faster = (evaluate(kind, batch, ann_file=str(path)) for kind in ("CocoMetric", "FasterCocoMetric"))
    assert faster == plain == evaluate("CocoMetric", batch)


@pytest.mark.usefixtures("fast")
def test_mmdetection_is_left_as_it_was_and_the_other_evaluator_did_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(COCOeval, "evaluate", lambda self: used.append("pycocotools"))
    assert evaluate("FasterCocoMetric", samples())["coco/bbox_mAP"] > 0
    assert (used, coco_metric.COCOeval) == ([], COCOeval)


@pytest.mark.usefixtures("fast")
def test_the_table_is_printed_as_pycocotools_prints_it(capsys: pytest.CaptureFixture) -> None:
    tables = []
    for kind in ("CocoMetric", "FasterCocoMetric"):
        evaluate(kind, samples())
        lines = capsys.readouterr().out.splitlines()
        tables.append([line.split("=")[-1] for line in lines if line.startswith(" Average")])
    assert tables[1][: len(tables[0])] == tables[0]
    assert len(tables[0]) == 12


@pytest.mark.usefixtures("fast")
def test_nothing_found_is_reported_as_by_cocometric() -> None:
    batch = samples()
    for one in batch:
        one["pred_instances"] = one["pred_instances"][:0]
    assert evaluate("FasterCocoMetric", batch) == evaluate("CocoMetric", batch) == {}


@pytest.mark.usefixtures("fast")
def test_format_only_keeps_the_ids_of_the_images(tmp_path: Path) -> None:
    evaluate("FasterCocoMetric", samples(), format_only=True, outfile_prefix=str(tmp_path / "found"))
    found = json.loads((tmp_path / "found.bbox.json").read_text())
    assert {one["image_id"] for one in found} <= {f"photo_{i}" for i in range(12)}


@pytest.mark.usefixtures("fast")
def test_use_mp_eval_is_refused() -> None:
    with pytest.raises(ValueError, match="use_mp_eval=True has no meaning for FasterCocoMetric"):
        METRICS.build(dict(type="FasterCocoMetric", use_mp_eval=True))


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_such_package(name: str, *args, **kwargs):
        if name.partition(".")[0] == "faster_coco_eval":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_such_package)
    with pytest.raises(ValueError, match=r"needs faster-coco-eval \(No module.*\): pip install faster-coco-eval, or"):
        METRICS.build(dict(type="FasterCocoMetric"))
