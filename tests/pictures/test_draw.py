"""Pictures are new, what is on looks on, and a grid keeps every picture whole and in its place."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from det_distill.pictures import draw
from det_distill.pictures.grid import grid, zoom_for

GREY = np.full((24, 40, 3), 200, dtype=np.uint8)
NOISE = np.random.default_rng(7).integers(0, 256, (24, 40, 3), dtype=np.uint8)
BOXES = np.array([[3.0, 4.0, 20.0, 15.0], [-5.0, 2.0, 60.0, 9.0]])


@pytest.mark.parametrize(
    "paint",
    [
        pytest.param(lambda image: draw.overlay(image, np.eye(3, 5, dtype=bool), (8, 8)), id="overlay"),
        pytest.param(lambda image: draw.boxes(image, BOXES, [(255, 0, 0), (0, 0, 255)], ["a", "b"]), id="boxes"),
        pytest.param(lambda image: draw.boxes(image, np.zeros((0, 4))), id="no boxes"),
        pytest.param(lambda image: draw.resize(image, 1), id="resize"),
        pytest.param(lambda image: grid([[image]], ["c"], ["r"], [["x"]], "t"), id="grid"),
    ],
)
def test_the_callers_array_is_never_painted_on_nor_handed_back(paint):
    image = NOISE.copy()
    out = paint(image)
    assert np.array_equal(image, NOISE)
    assert out.dtype == np.uint8
    assert out.shape[2] == 3
    out[:] = 0
    assert np.array_equal(image, NOISE)


@settings(deadline=None)
@given(mask=arrays(bool, (5, 8)), opacity=st.floats(0.1, 1), shade=st.floats(0, 0.9))
def test_a_pixel_inside_a_cell_is_tinted_exactly_where_the_cell_is_on(mask, opacity, shade):
    out = draw.overlay(GREY, mask, (5, 5), (10, 180, 90), opacity, shade)
    for y, x in itertools.product(range(24), range(40)):
        if y % 5 in (0, 4) or x % 5 in (0, 4):
            continue  # the outline may lie here
        on = mask[y // 5, x // 5]
        tint = [(1 - opacity) * 200 + opacity * part for part in (10, 180, 90)]
        assert out[y, x] == pytest.approx(tint if on else [200 * (1 - shade)] * 3, abs=0.51)


def test_fractional_strides_of_a_shrunk_picture_are_read_per_pixel():
    mask = np.arange(12).reshape(1, 12) % 2 == 0
    out = draw.overlay(GREY, mask, (40 / 12, 24.0), (0, 0, 0), opacity=1, shade=0)
    assert (out[0, :, 0] == 0).tolist() == [int((x + 0.5) * 12 / 40) % 2 == 0 for x in range(40)]


@pytest.mark.parametrize(("stride", "bordered"), [(4, False), (8, True)])
def test_cells_have_borders_only_where_they_are_large(stride, bordered):
    mask = np.ones((24 // stride, 40 // stride), dtype=bool)
    out = draw.overlay(GREY, mask, (stride, stride))
    lines = {x for x in range(40) if not np.array_equal(out[2, x], out[2, 2])}
    assert lines == (set(range(stride, 40, stride)) if bordered else set())


def test_a_region_that_is_on_has_an_outline_of_one_pixel_inside_it():
    mask = np.zeros((6, 10), dtype=bool)
    mask[2:4, 3:6] = True  # pixels 8..15 down, 12..23 across
    out = draw.overlay(GREY, mask, (4, 4), (100, 0, 0), opacity=0, shade=0)
    changed = {(y, x) for y, x in itertools.product(range(24), range(40)) if out[y, x, 0] != 200}
    rim = {(y, x) for y in range(8, 16) for x in range(12, 24) if y in (8, 15) or x in (12, 23)}
    assert changed == rim


def test_a_box_is_outlined_where_it_lies_in_its_own_colour():
    out = draw.boxes(GREY, np.array([[5.0, 6.0, 15.0, 12.0], [20, 6, 30, 12]]), [(255, 0, 0), (0, 0, 255)], width=1)
    for left, colour in ((5, [255, 0, 0]), (20, [0, 0, 255])):
        frame = {(y, x) for y in range(6, 13) for x in range(left, left + 11) if y in (6, 12) or x in (left, left + 10)}
        assert {(y, x) for y, x in np.argwhere((out == colour).all(axis=2)).tolist()} == frame
        assert out[9, left + 5].tolist() == [200, 200, 200]


@pytest.mark.parametrize(
    "box",
    [(-30.0, -30.0, -3.0, -3.0), (4.0, 4.0, 4.0, 4.0), (-1e9, 0.0, 1e9, 5.0)],
    ids=["outside", "no area", "vast"],
)
def test_odd_boxes_do_not_stop_the_drawing(box):
    assert draw.boxes(GREY, np.array([box]), labels=["odd"]).shape == GREY.shape


def test_a_grid_keeps_every_picture_whole_and_in_order():
    inks = [[(10, 200, 30), (40, 50, 220)], [(200, 20, 60), (70, 180, 190)], [(90, 10, 110), (230, 130, 5)]]
    cells = [[np.full((30, 50, 3), ink, dtype=np.uint8) for ink in row] for row in inks]
    out = grid(cells, ["c" * 90, "d"], ["a", "b", "c"], [["caption " * 9] * 2] * 3, "t", [("x", (0, 0, 1))] * 9)
    corner = {}
    for i, j in itertools.product(range(3), range(2)):
        ys, xs = np.nonzero((out == inks[i][j]).all(axis=2))
        assert (len(ys), np.ptp(ys) + 1, np.ptp(xs) + 1) == (30 * 50, 30, 50)
        corner[i, j] = (ys.min(), xs.min())
    assert corner[0, 0][0] < corner[1, 0][0] < corner[2, 0][0]
    assert corner[0, 0][0] == corner[0, 1][0]
    assert corner[0, 0][1] < corner[0, 1][1]


def test_every_title_and_caption_leaves_its_own_mark():
    words = {"columns": ["c"], "rows": ["r"], "captions": [["x"]], "title": "t", "legend": [("l", (9, 9, 9))]}
    out = grid([[GREY]], **words)
    for key, blank in (("columns", [""]), ("rows", [""]), ("captions", [[""]]), ("legend", [("", (9, 9, 9))])):
        other = grid([[GREY]], **{**words, key: blank})
        assert other.shape == out.shape
        assert not np.array_equal(other, out), key


@pytest.mark.parametrize(
    ("width", "zoom"), [(160, 2), (240, 1), (239, 2), (320, 1), (100, 3), (1, 240), (960, 0.5), (1333, 480 / 1333)]
)
def test_small_pictures_grow_by_an_integer_and_large_ones_shrink(width, zoom):
    assert zoom_for(width) == zoom


def test_resize_multiplies_the_sides():
    assert draw.resize(NOISE, 3).shape == (72, 120, 3)
    assert draw.resize(NOISE, 0.01).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: draw.overlay(GREY.astype(float), np.ones((3, 5), bool), (8, 8)), "image: want uint8"),
        (lambda: draw.overlay(GREY[..., 0], np.ones((3, 5), bool), (8, 8)), "image: want uint8"),
        (lambda: draw.overlay(GREY, np.ones((3, 5)), (8, 8)), "mask: want bool"),
        (lambda: draw.overlay(GREY, np.ones((1, 3, 5), bool), (8, 8)), "mask: want bool"),
        (lambda: draw.overlay(GREY, np.ones((3, 4), bool), (8, 8)), "4 columns of stride 8 do not just cover 40"),
        (lambda: draw.overlay(GREY, np.ones((5, 5), bool), (8, 8)), "5 rows of stride 8 do not just cover 24"),
        (lambda: draw.overlay(GREY, np.ones((3, 5), bool), (0, 8)), "stride 0"),
        (lambda: draw.overlay(GREY, np.ones((3, 5), bool), (8, 8), opacity=1.1), "opacity: want"),
        (lambda: draw.overlay(GREY, np.ones((3, 5), bool), (8, 8), (0, 0, 256)), "colour: want"),
        (lambda: draw.boxes(GREY, np.zeros((2, 5))), "xyxy: want finite"),
        (lambda: draw.boxes(GREY, np.full((1, 4), np.nan)), "xyxy: want finite"),
        (lambda: draw.boxes(GREY, np.array([[5.0, 5.0, 4.0, 6.0]])), "xyxy: want x1 <= x2"),
        (lambda: draw.boxes(GREY, BOXES, [(1, 2, 3)]), "colours: want one per box, 2, got 1"),
        (lambda: draw.boxes(GREY, BOXES, labels=["a"]), "labels: want one per box, 2, got 1"),
        (lambda: draw.resize(GREY, 0), "zoom: want"),
        (lambda: zoom_for(0), "width: want"),
        (lambda: grid([], [], [], []), "cells: want at least one"),
        (lambda: grid([[GREY]], ["a", "b"], ["r"], [["x"]]), "2 columns"),
        (lambda: grid([[GREY]], ["a"], ["r"], [[]]), "a caption each"),
        (lambda: grid([[GREY, GREY[:9]]], ["a", "b"], ["r"], [["x", "y"]]), "images of one size"),
    ],
)
def test_a_wrong_argument_is_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
