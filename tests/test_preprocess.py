"""Renormalised batches against the teacher's own preprocessor, run on the raw images."""

from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS
from torch import Tensor, nn

import tiny
from det_distill.preprocess import Renormalise

SIZES = [(50, 70), (64, 41), (37, 96)]  # (height, width) of the images of one batch
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
SIDES: dict[str, dict[str, Any]] = {
    "rgb": IMAGENET | dict(bgr_to_rgb=True, pad_size_divisor=32),
    "rgb, other divisor": IMAGENET | dict(bgr_to_rgb=True, pad_size_divisor=64),
    "rgb, unpadded": IMAGENET | dict(bgr_to_rgb=True),
    "rgb, other padding": IMAGENET | dict(bgr_to_rgb=True, pad_size_divisor=32, pad_value=114),
    "caffe": CAFFE | dict(pad_size_divisor=32),
    "raw": dict(pad_size_divisor=32, pad_value=7),
    "raw, flipped": dict(rgb_to_bgr=True),
    "grey": dict(mean=[127.5], std=[50.0], pad_size_divisor=16),
}


def images(sizes: list[tuple[int, int]] = SIZES) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8) for h, w in sizes]


def preprocessed(config: dict[str, Any], raw: list[Tensor]) -> tuple[DetDataPreprocessor, Tensor]:
    own = DetDataPreprocessor(**config)
    return own, own(dict(inputs=[image.clone() for image in raw], data_samples=None))["inputs"]


def check(student: dict[str, Any], teacher: dict[str, Any], sizes: list[tuple[int, int]] = SIZES) -> None:
    """Equal to the judge wherever the judge has pixels; whatever the student's grid adds is padding."""
    raw = images(sizes)
    own, inputs = preprocessed(student, raw)
    its, expected = preprocessed(teacher, raw)
    before = inputs.clone()
    found = Renormalise(own, its)(inputs, sizes)
    assert inputs.equal(before)
    height, width = expected.shape[2:]
    torch.testing.assert_close(found[:, :, :height, :width], expected, rtol=1e-5, atol=2e-4)
    pad, beyond = float(teacher.get("pad_value", 0)), found.clone()
    beyond[:, :, :height, :width] = pad
    assert (beyond == pad).all()
    divisor = teacher.get("pad_size_divisor", 1)
    for axis in (2, 3):  # the least multiple of the teacher's divisor that covers the student's grid
        assert found.shape[axis] % divisor == 0
        assert inputs.shape[axis] <= found.shape[axis] < inputs.shape[axis] + divisor
    if divisor % student.get("pad_size_divisor", 1) == 0:
        assert found.shape == expected.shape


@pytest.mark.parametrize(("student", "teacher"), list(product(SIDES, SIDES)))
def test_equals_the_teachers_own_preprocessing_of_the_raw_images(student: str, teacher: str):
    check(SIDES[student], SIDES[teacher])


triple = st.lists(st.floats(1, 200), min_size=3, max_size=3)
side = st.fixed_dictionaries(
    dict(
        mean=triple, std=triple, bgr_to_rgb=st.booleans(),
        pad_value=st.integers(0, 255), pad_size_divisor=st.sampled_from([1, 8, 32]),
    )
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(student=side, teacher=side, sizes=st.lists(st.tuples(*[st.integers(1, 40)] * 2), min_size=1, max_size=3))
def test_equals_it_for_any_numbers_and_sizes(student, teacher, sizes):
    check(student, teacher, sizes)


def test_shapes_may_carry_the_number_of_channels():
    raw = images()
    own, inputs = preprocessed(SIDES["rgb"], raw)
    its, expected = preprocessed(SIDES["raw"], raw)
    found = Renormalise(own, its)(inputs, [(h, w, 3) for h, w in SIZES])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("name", SIDES)
def test_shares_the_tensor_where_both_agree(name: str):
    own, inputs = preprocessed(SIDES[name], images())
    its, _ = preprocessed(SIDES[name], images())
    assert Renormalise(own, its)(inputs, SIZES).data_ptr() == inputs.data_ptr()


@cache
def detector() -> nn.Module:
    return MODELS.build(tiny.faster_rcnn()).eval()


@pytest.mark.parametrize("size", [(64, 128), (65, 97), (128, 160), (33, 191), (70, 64)], ids=str)
@pytest.mark.parametrize("divisors", [(1, 32), (1, 64), (32, 64), (16, 128)], ids=str)
def test_cropped_maps_have_the_sizes_of_the_students(size: tuple[int, int], divisors: tuple[int, int]):
    raw = images([size])
    own, inputs = preprocessed(IMAGENET | dict(pad_size_divisor=divisors[0]), raw)
    its, _ = preprocessed(IMAGENET | dict(pad_size_divisor=divisors[1]), raw)
    feed = Renormalise(own, its)
    batch = feed(inputs, [size])
    with torch.no_grad():
        maps, wanted = detector().extract_feat(batch), detector().extract_feat(inputs)
    cut = feed.crop(maps, inputs, batch)
    assert [one.shape for one in cut] == [one.shape for one in wanted]
    for one, whole in zip(cut, maps, strict=True):
        assert one.equal(whole[..., : one.shape[2], : one.shape[3]])


def test_what_is_no_map_of_the_batch_is_not_cropped():
    inputs, batch = torch.zeros(2, 3, 48, 48), torch.zeros(2, 3, 64, 64)
    features, logits = torch.zeros(5, 8, 7, 7), torch.zeros(2, 4)
    assert Renormalise.crop(features, inputs, batch) is features
    assert Renormalise.crop(logits, inputs, batch) is logits
    assert [tuple(m.shape) for m in Renormalise.crop([batch, batch[..., ::4, ::4]], inputs, batch)] == [
        (2, 3, 48, 48),
        (2, 3, 12, 12),
    ]
