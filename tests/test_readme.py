"""What the README says works as written."""

import re
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_its_config_builds(tmp_path, monkeypatch):
    [block] = blocks("python")
    monkeypatch.setattr("det_distill.teacher.load_strictly", lambda *_: None)
    file = tmp_path / "mine.py"
    file.write_text(block.replace('"configs/', f'"{ROOT}/configs/'))
    distiller = MODELS.build(Config.fromfile(file).model)
    assert [a.conv.out_channels for a in distiller.terms["imitation"].adapters] == [256] * 5


def test_its_commands_name_what_is_there():
    commands = [line.partition("#")[0].split() for block in blocks("bash") for line in block.splitlines()]
    makefile = (ROOT / "Makefile").read_text()
    for words in filter(None, commands):
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        for path in (word for word in words if word.startswith(("tools/", "configs/"))):
            assert (ROOT / path).is_file(), path


def test_its_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_ci_calls_its_test_command():
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert any("make test" in block for block in blocks("bash"))
