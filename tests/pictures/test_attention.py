"""What the page says a teacher sees is what the stock detector computes, cell by cell."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.models.detectors import RPN
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict

import tiny
from det_distill.pictures.attention import PROPOSALS, TITLES, maps_of, teacher_for
from det_distill.scene import levels_of
from det_distill.teachers.teacher import Teacher

HEIGHT, WIDTH = 90, 150
IMAGE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
MODELS = dict(pyramid=tiny.faster_rcnn, single=tiny.c4, rpn=tiny.rpn)


def lively(folder: Path, model: ConfigDict) -> Teacher:
    """Weights large enough for features beyond the first step of the quantiser."""
    files = tiny.write_teacher(folder, model)
    content = torch.load(files["checkpoint"])
    last, factor = ("neck.", 4) if "neck" in model else ("backbone.layer3.1.bn2.", 40)
    for name, value in content["state_dict"].items():
        if name.startswith(last) and name.endswith(("weight", "bias")):
            value.mul_(factor)
    torch.save(content, files["checkpoint"])
    return Teacher.from_config(files)


def stock(teacher: Teacher) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The detector's own maps and proposals of the image, by its own methods."""
    detector = teacher.detector
    sample = DetDataSample(metainfo=dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH), scale_factor=(1, 1)))
    bgr = torch.from_numpy(np.ascontiguousarray(IMAGE[:, :, ::-1])).permute(2, 0, 1)
    batch = detector.data_preprocessor(dict(inputs=[bgr], data_samples=[sample]))
    with torch.no_grad():
        maps = detector.extract_feat(batch["inputs"])
        head = detector.bbox_head if isinstance(detector, RPN) else detector.rpn_head
        (found,) = head.predict(maps, batch["data_samples"], rescale=False)
    return maps, found.bboxes[:PROPOSALS]


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_the_stock_detectors_cell_by_cell(name, tmp_path):
    teacher = lively(tmp_path, MODELS[name]())
    strides = [16] if name == "single" else [4, 8, 16, 32, 64]
    priors = AnchorGenerator(strides=[*strides, 128], ratios=[1.0], scales=[8])
    sizes = [(math.ceil(96 / s), math.ceil(160 / s)) for s in [*strides, 128]]
    found = maps_of(teacher, IMAGE, levels_of(priors, sizes, [*strides, 128]))
    assert tuple(found) == TITLES
    assert all(maps.pop() is None for maps in found.values())  # no map of stride 128
    features, boxes = stock(teacher)
    assert len(boxes) > 5
    shares = []
    for index, (stride, size) in enumerate(zip(strides, sizes, strict=False)):
        inside = [(i, j) for i, j in np.ndindex(*size) if i * stride < HEIGHT and j * stride < WIDTH]
        energy, share, proposed = {}, {}, set()
        for i, j in inside:
            channels = features[index][0, :, i, j].tolist()
            energy[i, j] = sum(f * f for f in channels) / len(channels)
            # Away from 0 a feature rounds to the nearest integer, midpoints down: 0.5 goes to 0, -0.5 to -1.
            zero = [-0.5 < f <= 0.5 if name != "single" else f <= 0.5 for f in channels]
            share[i, j] = 1 - sum(zero) / len(channels)
            for x1, y1, x2, y2 in boxes.double().tolist():
                side = math.sqrt((x2 - x1) * (y2 - y1))
                home = min(max(math.floor(math.log2(side / (14 * strides[0]))), 0), len(strides) - 1)
                across = j * stride < x2 and (j + 1) * stride > x1
                if home == index and across and i * stride < y2 and (i + 1) * stride > y1:
                    proposed.add((i, j))
        low, high = min(energy.values()), max(energy.values())
        for cell in np.ndindex(*size):
            heat = 255 * (energy[cell] - low) / (high - low) if cell in energy and high > low else 0
            assert found[TITLES[0]][index][cell] == pytest.approx(heat, abs=0.51)
            assert found[TITLES[1]][index][cell] == pytest.approx(255 * share.get(cell, 0), abs=0.51)
            assert found[TITLES[2]][index][cell] == (cell in proposed)
        shares += share.values()
    assert 0 < np.mean(shares) < 1


@pytest.fixture
def plain(tmp_path):
    return tiny.write_teacher(tmp_path, tiny.faster_rcnn())


def test_a_plain_detector_needs_a_checkpoint(plain):
    model = tiny.faster_rcnn()
    assert teacher_for(plain["config"], model, None) == (None, "no checkpoint was given")
    teacher, reason = teacher_for(plain["config"], model, plain["checkpoint"])
    assert (teacher.checkpoint, reason) == (plain["checkpoint"], "")
    with pytest.raises(FileNotFoundError, match=r"no\.pth"):
        teacher_for(plain["config"], model, "no.pth")


def test_a_distillers_teacher_is_left_out_with_a_reason_or_replaced(plain):
    model = ConfigDict(tiny.distiller(tiny.faster_rcnn(), plain))
    assert teacher_for("c.py", model, None)[0].checkpoint == plain["checkpoint"]
    absent = ConfigDict(tiny.distiller(tiny.faster_rcnn(), plain | dict(checkpoint="no.pth")))
    assert teacher_for("c.py", absent, None) == (None, "there is no teacher.checkpoint no.pth")
    assert teacher_for("c.py", absent, plain["checkpoint"])[0].checkpoint == plain["checkpoint"]
    lower = ConfigDict(tiny.distiller(dict(model=tiny.faster_rcnn(), scale=0.5), plain))
    assert teacher_for("c.py", lower, None) == (
        None,
        "the teacher sees another resolution than the student's shown here",
    )
