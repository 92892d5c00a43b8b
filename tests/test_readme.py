"""What the README says works as written."""

import re
from pathlib import Path

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

import tiny

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "configs/results/README.md", "data/README.md"]


def read(page):
    return (ROOT / page).read_text()


TEXT = read("README.md")


def blocks(language, text=TEXT):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def section(title):
    """The text below a heading, up to the next of its level or above."""
    return re.search(rf"\n(#+) {title}\n(.*?)(?=\n#{{1,3}} |\Z)", TEXT, re.DOTALL)[2]


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The Distiller of the only config in a section; its teacher keeps random weights."""

    def build(title):
        [block] = re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)
        monkeypatch.setattr("det_distill.teachers.teacher.load_strictly", lambda *_: None)
        file = tmp_path / "mine.py"
        file.write_text(block.replace('"configs/', f'"{ROOT}/configs/'))
        return MODELS.build(Config.fromfile(file).model)

    return build


def test_its_config_builds(built):
    adapters = built("A config, explained").terms["imitation"].adapters
    assert [a.conv.out_channels for a in adapters] == [256] * 5


def test_half_of_a_stock_detector_begins_with_half_of_each_layer(built):
    distiller = built("Half of your own detector")
    adapters = distiller.terms["imitation"].adapters
    assert [(a.conv.in_channels, a.conv.out_channels) for a in adapters] == [(128, 256)] * 5
    assert "121 of 121 layers" in distiller.inherit.told(distiller.student, distiller.teachers)
    own, its = (sum(p.numel() for p in net.parameters()) for net in (distiller.student, distiller.teacher.detector))
    assert 0.25 <= own / its < 0.27


def test_a_method_is_added_as_it_says(tmp_path, monkeypatch):
    code, config = re.findall(r"```python\n(.*?)```", section("Add a method"), re.DOTALL)
    assert len(code.strip().splitlines()) < 30
    (tmp_path / "channel_wise.py").write_text(code)
    (tmp_path / "mine.py").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    cfg = Config.fromfile(tmp_path / "mine.py")
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(12, 24))
    model = MODELS.build(dict(type="Distiller", student=tiny.faster_rcnn(), teacher=teacher, **cfg.model))

    with model.view.record(["neck"]) as seen:
        loss = tiny.losses(model, tiny.batch())["loss_channels"]
    loss.backward()
    assert all(adapter.conv.weight.grad.any() for adapter in model.terms["channels"].adapters)
    data = model.data_preprocessor(tiny.batch(), training=True)
    shown = model.teacher.watch(data["inputs"], data["data_samples"], ["neck"], None)
    total = 0.0
    for own, its, adapter in zip(seen["neck"], shown["neck"], model.terms["channels"].adapters, strict=True):
        gaps = []
        for s, t in zip(adapter(own).detach().flatten(0, 1), its.flatten(0, 1), strict=True):
            q, p = ((one.flatten() / 4).double().exp() for one in (s, t))
            q, p = q / q.sum(), p / p.sum()
            gaps.append(16 * float((p * (p / q).log()).sum()))
        total += 3.0 * sum(gaps) / len(gaps) / 5
    assert loss.item() == pytest.approx(total, rel=1e-4)


def test_several_teachers_teach_as_it_says(tmp_path):
    [block] = re.findall(r"```python\n(.*?)```", section("Several teachers"), re.DOTALL)
    text = block
    for name, classes in (("big", 3), ("cells", 2)):
        (tmp_path / name).mkdir()
        paths = tiny.write_teacher(tmp_path / name, tiny.faster_rcnn(12, 24, classes=classes))
        text = text.replace(f'"{name}.py"', repr(paths["config"])).replace(f'"{name}.pth"', repr(paths["checkpoint"]))
    (tmp_path / "mine.py").write_text(text)
    told = Config.fromfile(tmp_path / "mine.py").model
    model = MODELS.build(dict(type="Distiller", student=tiny.faster_rcnn(), **told))
    losses = tiny.losses(model, tiny.batch())
    assert losses["loss_soft"] > 0
    assert losses["loss_imitation"] > 0


def test_its_stages_are_those_of_a_distiller(tmp_path):
    [block] = re.findall(r"```python\n(.*?)```", section("Training in stages"), re.DOTALL)
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(12, 24))
    terms = dict(hint=tiny.imitation(), soft=dict(type="SoftLabels", head="roi", weight=0.1))
    (tmp_path / "mine.py").write_text(block)
    told = Config.fromfile(tmp_path / "mine.py").model
    model = MODELS.build(dict(type="Distiller", student=tiny.faster_rcnn(), teacher=teacher, terms=terms, **told))
    assert [stage.until for stage in model.stages.all] == [1, None]


@pytest.mark.parametrize("page", PAGES)
def test_its_commands_name_what_is_there(page):
    commands = [line.partition("#")[0].split() for block in blocks("bash", read(page)) for line in block.splitlines()]
    makefile = read("Makefile")
    for words in filter(None, commands):
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        for path in (word for word in words if word.startswith(("tools/", "configs/"))):
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES)
def test_its_tables_name_what_is_there(page):
    for path in re.findall(r"`((?:tools|configs|tests|det_distill|data)/[\w./-]+\.\w+)`", read(page)):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES)
def test_its_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\((?!http)([^)]+)\)", read(page)):
        name, _, anchor = target.partition("#")
        there = ROOT / page if not name else ROOT / Path(page).parent / name
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text()), target


def anchors(words):
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", words, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_ci_calls_its_test_command():
    assert "make test" in read(".ci/run")
    assert any("make test" in block for block in blocks("bash"))
