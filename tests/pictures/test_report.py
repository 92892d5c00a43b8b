"""The page holds what Python found, needs nothing beside it, and trusts no name."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from PIL import Image

from det_distill.masks import AnchorIoUMask, FullMask, GtBoxMask
from det_distill.pictures.contenders import Contender
from det_distill.pictures.report import Slide, report
from det_distill.scene import Scene, levels_of

PRIORS = AnchorGenerator(strides=[8, 16], ratios=[0.5, 1.0], scales=[4])
BOXES = torch.tensor([[4.25, 6.0, 46.1, 34.0], [10.0, 2.0, 20.0, 12.0]])
IGNORED = torch.tensor([[30.0, 20.0, 60.0, 40.0]])
EVIL = "</script><img src=x onerror=alert(1)><!--data-->&\u2028'\""


def slide(name: str = "one", names: tuple[str, str] = ("nut", "bolt")) -> Slide:
    """50x70 pixels, padded to 64x96."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:50, :70] = (200, 40, 90)
    scene = Scene([BOXES], [IGNORED], [(50, 70)])
    colours = [(240, 228, 66), (255, 255, 255)]
    return Slide(name, image, scene, levels_of(PRIORS, [(8, 12), (4, 6)], [8, 16]), list(names), colours)


OWN = Contender("this config's term 'near'", AnchorIoUMask(0.3, "joint", 40.0), strides=[16], own=True)
CONTENDERS = [Contender("GtBoxMask", GtBoxMask()), Contender("FullMask", FullMask()), OWN]


class Page(HTMLParser):
    """The page as a browser takes it apart: elements, their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.title, self._inside = "", ""
        self.feed(text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, text):
        if self._inside == "script":
            self.scripts[-1] += text
        if self._inside == "title":
            self.title += text


def cells(text: str, size: tuple[int, int]) -> np.ndarray:
    """Bit by bit: eight cells a byte, the first in the highest bit."""
    found = [byte >> (7 - bit) & 1 for byte in base64.b64decode(text) for bit in range(8)]
    return np.array(found[: size[0] * size[1]], bool).reshape(size)


def test_the_numbers_travel_exactly():
    (found,) = Page(report("t", [slide()], CONTENDERS)).data["images"]
    assert found["boxes"] == BOXES.double().tolist()  # 46.1 as the fp32 nearest to it, not as 46.1
    assert found["ignored"] == IGNORED.double().tolist()
    assert (found["size"], found["padded"]) == ([50, 70], [64, 96])
    assert found["names"] == ["nut", "bolt"]
    assert found["colours"] == ["#f0e442", "#ffffff"]
    for level, anchors, stride in zip(found["levels"], PRIORS.base_anchors, (8, 16), strict=True):
        assert level["anchors"] == anchors.double().tolist()
        assert level["stride"] == [stride, stride]


def test_masks_travel_bit_by_bit_and_say_where_they_are_not_used():
    one = slide()
    page = Page(report("t", [one], CONTENDERS)).data
    (found,) = page["images"]
    assert page["masks"] == [contender.title for contender in CONTENDERS]
    sizes = [(8, 12), (4, 6)]
    for texts, mask in zip(found["masks"], (GtBoxMask(), FullMask()), strict=False):
        for text, size, expected in zip(texts, sizes, mask(one.scene, one.levels), strict=True):
            assert np.array_equal(cells(text["bits"], size), expected[0].numpy())
    assert found["masks"][2][0] is None
    (alone,) = OWN.mask(one.scene, one.levels[1:])
    assert np.array_equal(cells(found["masks"][2][1]["bits"], (4, 6)), alone[0].numpy())
    # Counted by hand: 9 columns and 7 rows of 8 px are reached by the pixels; of these the ignored area takes the
    # centres 36, 44, 52, 60 (4 columns) by 20, 28, 36 (3 rows).
    assert cells(found["levels"][0]["allowed"], (8, 12)).sum() == 9 * 7 - 4 * 3


def test_maps_travel_byte_by_byte_behind_the_masks():
    heat = np.arange(96, dtype=np.uint8).reshape(8, 12)
    extra = {"heat": [heat, None], "proposals": [None, heat[:4, :6] % 5 == 0]}
    page = Page(report("t", [replace(slide(), maps=extra)], CONTENDERS, remark="left <out>")).data
    assert page["masks"][3:] == ["heat", "proposals"]
    assert page["remark"] == "left <out>"
    hot, proposed = page["images"][0]["masks"][3:]
    assert list(base64.b64decode(hot[0]["bytes"])) == list(range(96))
    assert (hot[1], proposed[0]) == (None, None)
    assert np.array_equal(cells(proposed[1]["bits"], (4, 6)), extra["proposals"][1])


def test_the_photo_is_the_image_without_its_padding():
    (found,) = Page(report("t", [slide()], [])).data["images"]
    kind, _, content = found["photo"].partition(",")
    assert kind == "data:image/jpeg;base64"
    photo = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), int)
    assert photo.shape == (50, 70, 3)
    assert np.abs(photo - (200, 40, 90)).max() < 8


def test_the_sliders_begin_at_the_configs_own_mask():
    page = Page(report("t", [slide()], CONTENDERS)).data
    assert (page["psi"], page["assignment"], page["finest"]) == (0.3, "joint", 40.0)
    page = Page(report("t", [slide()], [])).data
    assert (page["psi"], page["assignment"], page["finest"]) == (0.5, "size", 56.0)


def test_a_name_that_looks_like_markup_does_no_harm():
    page = Page(report(EVIL, [slide(EVIL, (EVIL, "bolt"))], [Contender(EVIL, FullMask())]))
    assert len(page.scripts) == 2  # the data and the page's own
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.title.startswith(EVIL)
    found = page.data
    assert (found["images"][0]["name"], found["images"][0]["names"][0], found["masks"]) == (EVIL, EVIL, [EVIL])
    assert not set("<>&\u2028") & set(page.scripts[0])


def test_nothing_lies_outside_the_page():
    text = report("t", [slide(), slide("two")], CONTENDERS)
    assert not re.findall(r"https?:|//[a-z]+\.|@import|url\(|importScripts|fetch\(|XMLHttpRequest", text)
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"
    (policy,) = [at["content"] for tag, at in page.tags if tag == "meta" and "http-equiv" in at]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_same_masks_give_the_same_bytes():
    assert report("t", [slide()], CONTENDERS) == report("t", [slide()], CONTENDERS)


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="slides: want at least one image, got none"):
        report("t", [], CONTENDERS)
