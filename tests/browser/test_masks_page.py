"""The page in a real browser says what Python says: cell for cell, count for count."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser.driver import Browser
from mmdet.models.task_modules.prior_generators import AnchorGenerator, MlvlPointGenerator

from det_distill.masks import AnchorIoUMask, FullMask, GtBoxMask, PointMask
from det_distill.masks.anchor_iou import ASSIGNMENTS
from det_distill.pictures.contenders import Contender
from det_distill.pictures.report import Slide, report
from det_distill.scene import Scene, levels_of

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PROGRAM, reason="no chromium is installed"),
]
STRIDES = [4, 8, 16, 32]
PRIORS = AnchorGenerator(strides=STRIDES, ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
POINTS = MlvlPointGenerator(STRIDES)
TABLE = "[...document.querySelectorAll('#rows tr')].map(row => [...row.children].map(cell => cell.innerText.trim()))"
READY = "document.body.dataset.ready === 'yes'"


def slide(name: str, height: int, width: int, boxes: torch.Tensor, ignored: torch.Tensor | None = None) -> Slide:
    """A photo of noise whose sides are padded to multiples of 32."""
    rows, columns = (-(-side // 32) * 32 for side in (height, width))
    image = np.zeros((rows, columns, 3), np.uint8)
    image[:height, :width] = np.random.default_rng(7).integers(60, 200, (height, width, 1), np.uint8)
    sizes = [(-(-rows // s), -(-columns // s)) for s in STRIDES]
    scene = Scene([boxes], [torch.zeros(0, 4) if ignored is None else ignored], [(height, width)])
    count = len(boxes)
    return Slide(name, image, scene, levels_of(PRIORS, sizes, STRIDES), ["nut"] * count, [(240, 228, 66)] * count)


def scattered(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Boxes of all sizes, in fp32, some beyond the image."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    side = 4 + torch.rand(count, 2, generator=generator) ** 3 * torch.tensor([width, height])
    return torch.cat((corner, corner + side), dim=1)


SLIDES = [
    slide("small", 90, 150, torch.tensor([[4.0, 6, 46, 34], [80, 40, 140, 84]]), torch.tensor([[120.0, 60, 150, 90]])),
    slide(
        "levels",  # sides of exactly 112 and 224 px, where "size" passes to the next level; no area; beyond the image
        *(430, 601),
        torch.tensor([[8.0, 8, 120, 120], [200, 100, 424, 324], [300, 200, 300, 260], [500, 300, 660, 500]]),
        torch.tensor([[0.0, 300, 90.5, 430]]),
    ),
    slide("large", 800, 1333, scattered(20, 800, 1333, seed=3)),
    slide("empty", 90, 150, torch.zeros(0, 4)),
    *(slide(f"random {seed}", 100 + seed, 180, scattered(5, 100, 180, seed)) for seed in range(20)),
]
HEAT = {  # on all levels but the last
    one.name: [
        *(np.random.default_rng(i).integers(0, 256, v.size, np.uint8) for i, v in enumerate(one.levels[:3])),
        None,
    ]
    for one in SLIDES
}
SLIDES = [replace(one, maps={"heat": HEAT[one.name]}) for one in SLIDES]
OWN = Contender("this config's term 'near'", AnchorIoUMask(0.65, "every"), [8, 16], own=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    driven = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield driven
    driven.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "index.html"
    contenders = [Contender("GtBoxMask", GtBoxMask()), Contender("FullMask", FullMask()), OWN]
    written.write_text(report("nuts & bolts", SLIDES, contenders), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def points_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a student that judges points, whose own mask reaches 5 cells."""
    slides = [replace(s, levels=levels_of(POINTS, [v.size for v in s.levels], STRIDES)) for s in SLIDES]
    written = tmp_path_factory.mktemp("points") / "index.html"
    contenders = [Contender("GtBoxMask", GtBoxMask()), Contender("this config's term 'near'", PointMask(5), own=True)]
    written.write_text(report("points", slides, contenders), encoding="utf-8")
    return written


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Browser]:
    yield from opened(browser, path)


@pytest.fixture
def points_page(browser: Browser, points_path: Path) -> Iterator[Browser]:
    yield from opened(browser, points_path)


def opened(browser: Browser, path: Path) -> Iterator[Browser]:
    """The page, freshly opened; whatever a test does to it, nothing is complained of and nothing fetched."""
    browser.errors.clear()
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.open(path, READY)
    yield browser
    assert browser.errors == []
    assert {address.partition(":")[0] for address in browser.requests} == {"file", "data"}
    assert [address for address in browser.requests if address.startswith("file:")] == [path.resolve().as_uri()]


def put(page: Browser, name: str, value: object) -> None:
    """What the browser does when a user changes a control."""
    assert page.js(f"{{const it = document.getElementById('{name}'); it.value = {json.dumps(value)};"
                   "it.dispatchEvent(new Event('input', {bubbles: true})); it.value}") == str(value)  # fmt: skip


def masks(of: Slide, mask: object) -> list[np.ndarray]:
    return [found[0].numpy() for found in mask(of.scene, of.levels)]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("psi", [0.2, 0.5, 0.8])
def test_the_counts_and_the_iou_shown_are_pythons(page, psi, index):
    put(page, "image", index)
    put(page, "psi-A", psi)
    put(page, "assignment-A", 0)
    mine, boxes = (masks(SLIDES[index], mask) for mask in (AnchorIoUMask(psi), GtBoxMask()))
    shown = page.js(TABLE)
    assert len(shown) == len(STRIDES)
    for (stride, a, b, iou), m, box, known in zip(shown, mine, boxes, STRIDES, strict=True):
        assert stride == str(known)
        for text, on in ((a, m), (b, box)):
            assert text.split()[:3] == [str(on.sum()), "of", str(on.size)]
            assert text.split()[3] == f"{100 * on.mean():.1f}"
        union = np.logical_or(m, box).sum()
        assert iou == (f"{np.logical_and(m, box).sum() / union:.3f}" if union else "both empty")
    every = [np.concatenate([one.ravel() for one in found]) for found in (mine, boxes)]
    total = page.js("document.getElementById('total').innerText").split()
    assert total[:4] == ["all", str(every[0].sum()), "of", str(every[0].size)]
    assert total[-1] == f"{np.logical_and(*every).sum() / np.logical_or(*every).sum():.3f}"


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_every_cell_is_pythons(page, assignment):
    for psi in (0, 0.1, 0.3, 0.5, 0.77, 0.99, 1):
        for index, of in enumerate(SLIDES):
            call = f"anchorMask(data.images[{index}], {psi}, '{assignment}', 56).map(mask => mask.join(''))"
            for found, expected in zip(page.js(call), masks(of, AnchorIoUMask(psi, assignment)), strict=True):
                assert found == "".join(map(str, expected.ravel().astype(int))), (of.name, psi)


def test_every_cell_of_the_point_mask_is_pythons(points_page):
    for reach in (1, 2.5, 7.3, 8, 32):
        for index, of in enumerate(SLIDES):
            found = points_page.js(f"pointMask(data.images[{index}], {reach}).map(mask => mask.join(''))")
            for cells, expected in zip(found, masks(of, PointMask(reach)), strict=True):
                assert cells == "".join(map(str, expected.ravel().astype(int))), (of.name, reach)


def test_a_page_of_points_begins_at_the_configs_reach_and_says_nothing_of_anchors(points_page):
    assert points_page.js("document.getElementById('reach-A').value") == "5"
    assert points_page.js("document.getElementById('head-A').innerText").endswith("PointMask, reach 5")
    put(points_page, "image", 1)
    put(points_page, "reach-A", 12)
    expected = [int(mask.sum()) for mask in masks(SLIDES[1], PointMask(12))]
    assert points_page.js("panels[0].on.map(count)") == expected
    for name, seen in (("psi-A", False), ("assignment-A", False), ("reach-A", True)):
        assert points_page.js(f"document.getElementById('{name}').checkVisibility()") is seen
    said = points_page.js("document.querySelector('.notes').innerText")
    assert "the point mask" in said
    assert "anchor" not in said


def test_the_arrow_keys_move_the_slider_and_the_slider_changes_the_mask(page):
    before = page.js("[document.getElementById('psi-A').value, panels[0].canvas.toDataURL()]")
    page.js("document.getElementById('psi-A').focus()")
    for _ in range(5):
        page.press("ArrowLeft")
    after = page.js("[document.getElementById('psi-A').value, panels[0].canvas.toDataURL()]")
    assert float(before[0]) - float(after[0]) == pytest.approx(0.05)
    assert before[1] != after[1]
    expected = [m.sum() for m in masks(SLIDES[0], AnchorIoUMask(float(after[0]), "every"))]
    assert page.js("panels[0].on.map(count)") == expected
    assert page.js("document.getElementById('image').value") == "0"  # the slider has the arrows to itself


def test_the_arrow_keys_change_the_image_and_wrap_around(page):
    for key, index in (("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", len(SLIDES) - 1), ("ArrowRight", 0)):
        page.press(key)
        assert page.js("document.getElementById('image').value") == str(index)
        assert SLIDES[index].name in page.js("panels[0].canvas.getAttribute('aria-label')")


def test_two_methods_stand_side_by_side_and_change_apart(page):
    put(page, "method-B", 0)
    put(page, "psi-B", 0.9)
    put(page, "psi-A", 0.1)
    assert page.js("document.getElementById('head-A').innerText").endswith("AnchorIoUMask, ψ 0.1")
    assert page.js("document.getElementById('head-B').innerText").endswith("AnchorIoUMask, ψ 0.9")
    left, right = page.js("panels.map(panel => panel.canvas.getBoundingClientRect().toJSON())")
    assert left["right"] < right["left"]
    assert left["top"] == right["top"]
    a, b = (masks(SLIDES[0], AnchorIoUMask(psi, "every")) for psi in (0.1, 0.9))
    assert page.js("panels.map(panel => panel.on.map(count))") == [[m.sum() for m in found] for found in (a, b)]


def test_the_controls_begin_at_the_configs_own_mask_and_levels_it_leaves_out_are_said_to_be(page):
    assert page.js("['psi-A', 'assignment-A'].map(name => document.getElementById(name).value)") == ["0.65", "2"]
    put(page, "method-B", 3)
    assert "'near'" in page.js("document.getElementById('head-B').innerText")
    assert [row[2] for row in page.js(TABLE)][0::3] == ["not compared"] * 2
    assert "not compared" in page.js("panels[1].part('caption').innerText")
    compared = AnchorIoUMask(0.65, "every")(SLIDES[0].scene, SLIDES[0].levels[1:3])
    assert [row[2].split()[0] for row in page.js(TABLE)[1:3]] == [str(int(m.sum())) for m in compared]


@pytest.mark.parametrize("least", [0, 0.2, 0.7])
def test_a_map_is_on_from_the_threshold_and_off_where_no_image_is(page, least):
    put(page, "image", 1)
    put(page, "method-B", 4)
    put(page, "least-B", least)
    allowed = masks(SLIDES[1], FullMask())
    expected = [f"{((h >= 255 * least) & m).sum()}" for h, m in zip(HEAT["levels"][:3], allowed, strict=False)]
    shown = [row[2].split()[0] for row in page.js(TABLE)]
    assert shown == [*expected, "not"]
    assert page.js("document.getElementById('psi-B').checkVisibility()") is False
    assert page.js("document.getElementById('heat').checkVisibility()") is True


def test_a_level_is_chosen_by_its_radio_button(page):
    put(page, "method-B", 2)
    page.js("document.getElementById('level-0').focus()")
    page.press("ArrowRight")
    assert page.js("[...document.querySelectorAll('.current th')].map(head => head.innerText)") == ["8"]
    assert "of 8 px" in page.js("panels[1].part('caption').innerText")


def test_full_opacity_paints_the_tint_on_cells_that_are_on_and_boxes_can_go(page):
    put(page, "method-A", 2)  # FullMask
    put(page, "opacity", 1)
    page.js("document.getElementById('outlines').click()")
    colour = "[...panels[0].canvas.getContext('2d').getImageData({0}, {0}, 1, 1).data].slice(0, 3)"
    assert page.js(colour.format(30)) == [0xF0, 0x6E, 0x14]
    put(page, "opacity", 0)
    noise = page.js(colour.format(30).replace("panels[0]", "panels[1]"))
    assert max(noise) - min(noise) < 20  # grey, as the photo


def test_tab_reaches_every_control_and_each_has_a_name(page):
    wanted = page.js(
        "[...document.querySelectorAll('a, button, input, select')]"
        ".filter(it => it.checkVisibility() && (it.type !== 'radio' || it.checked)).map(it => it.id)"
    )
    assert {"image", "next", "previous", "opacity", "outlines", "level-0", "psi-A", "method-B"} <= set(wanted)
    reached = []
    for _ in wanted:
        page.press("Tab")
        reached.append(page.js("document.activeElement.id"))
    assert reached == wanted  # in the order of the page
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "slider", "radio", "checkbox", "image")
    named = [(one["role"]["value"], one["name"]["value"]) for one in tree if one.get("role", {}).get("value") in roles]
    assert len(named) >= len(wanted) + 2  # and two pictures
    assert all(name.strip() for _, name in named)


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_sticks_out_sideways(page, width):
    page.resize(width, 740, phone=width < 500)
    for index in (0, 2):
        put(page, "image", index)
        assert page.js("document.documentElement.scrollWidth") <= width
        assert page.js("document.querySelector('.scroll').scrollWidth <= document.querySelector('.scroll').clientWidth")


def luminance(colour: list[float]) -> float:
    """Relative luminance of sRGB 0 to 255 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_off_its_ground(page, dark):
    """A ratio of 4.5 is WCAG's AA for text of this size."""
    page.resize(1280, 900, dark=dark)
    pairs = page.js("""[...document.querySelectorAll('h1, h2, p, label, legend, th, td, small, output, button, select,'
        + ' .badge')].filter(it => it.checkVisibility() && it.innerText?.trim()).map(it => {
            let ground = it;
            while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
            const [ink, paper] = [getComputedStyle(it).color, getComputedStyle(ground).backgroundColor];
            return [it.innerText, ...[ink, paper].map(c => c.match(/[0-9.]+/g).slice(0, 3).map(Number))];
        })""")
    assert len(pairs) > 30
    assert (luminance(pairs[0][2]) < 0.2) == dark
    for text, ink, paper in pairs:
        low, high = sorted((luminance(ink), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, text


def test_a_large_image_follows_the_slider_at_once(page):
    """800x1333 pixels, 20 boxes, 9 anchors a cell from stride 4 on, every box on every level."""
    times = page.js("""[...Array(5)].map(() => { const start = performance.now();
        anchorMask(data.images[2], 0.5, 'every', 56); return performance.now() - start; })""")
    print(f"anchorMask: {min(times):.1f} ms")
    assert min(times) < 100
