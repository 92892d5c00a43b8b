"""A dumped config read as data equals the dumped config; whatever runs is refused."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config

import tiny
from det_distill.compat.config_text import read_config_text

ROOT = Path(__file__).parents[2]
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in ("if", "in", "is", "or"))
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="."), max_size=12)  # a dotted one may name code: refused
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["type", "a b", "x", "2"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def laid_out(formatter, monkeypatch):
    tiny.format_configs(monkeypatch, by=formatter)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.dictionaries(st.sampled_from(["model", "scale", "train_cfg", "x"]), VALUES, max_size=3))
def test_what_mmengine_dumps_is_read_as_it_was(content):
    cfg = Config(dict(content))
    assert read_config_text(cfg.pretty_text) == cfg.to_dict()


@pytest.mark.parametrize(
    "path", ["fgfi/bccd_r18_r18-half.py", "chen/voc0712_rfcn_r101_r50.py", "li/coco_r50_r50-half.py"]
)
def test_our_configs_are_read_as_they_were(path):
    cfg = Config.fromfile(ROOT / "configs" / path)
    assert read_config_text(cfg.pretty_text) == cfg.to_dict()


def test_infinity_and_nan_are_numbers():
    found = read_config_text("a = dict(x=inf, y=-inf)\nb = [nan]")
    assert found["a"] == dict(x=math.inf, y=-math.inf)
    assert math.isnan(found["b"][0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os", "line 1 of the config is no plain assignment: import os"),
        ("a = 1\nb = __import__('os').system('true')", r"line 2 of the config is no plain value: __import__\('os'\)"),
        ("a = dict(type=open('x'))", "line 1 of the config is no plain value: open"),
        ("a = dict([('b', 1)])", r"no plain value: dict\(\["),
        ("a = dict(**{'b': 1})", "no plain value"),
        ("a = {**x}", "no plain value"),
        ("a = lambda: 1", "no plain value"),
        ("a = [x for x in (1, 2)]", "no plain value"),
        ("a, b = 1, 2", "no plain assignment"),
        ("a = b = 1", "no plain assignment"),
        ("a.b = 1", "no plain assignment"),
        ("a =", "line 1 of the config is no Python: invalid syntax"),
    ],
)
def test_whatever_could_run_is_refused_with_its_line(text, said):
    with pytest.raises(ValueError, match=said):
        read_config_text(text)


@pytest.mark.parametrize("name", ["os.system", "torch.load", "mmengine.config.config.Path", "evil" * 30 + ".run"])
@pytest.mark.parametrize("around", ["{}", "[{}]", "(0, {})", "dict(x=[({},)])", "{{1: {}}}"])
def test_a_type_that_could_run_is_refused_wherever_it_stands(name: str, around: str):
    told = f"line 2 of the config names by type={name[:80]!r} what could run code"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        read_config_text("a = 1\nb = " + around.format(f"dict(type='{name}')"))


@pytest.mark.parametrize("name", ["RPN", "mmdet.RPN", "torch.nn.modules.conv.Conv2d", "mmengine.no_such.Name"])
def test_a_class_at_its_own_address_and_a_name_that_leads_nowhere_are_read(name: str):
    assert read_config_text(f"a = [dict(type='{name}')]") == dict(a=[dict(type=name)])


@pytest.mark.parametrize("file", ["a.pkl", "A.PICKLE", "a.yaml", "b" * 100 + ".yml"])
@pytest.mark.parametrize("around", ["{}", "[{}]", "(0, {})", "{{{}}}", "{{1: {}}}", "{{{}: 1}}"])
def test_a_file_that_could_run_is_refused_wherever_it_stands(file: str, around: str):
    told = f"line 1 of the config names {file[-80:]!r}, which could run code when loaded"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        read_config_text("a = " + around.format(repr(file)))


def test_what_is_no_plain_value_is_told_by_its_first_80_letters():
    with pytest.raises(ValueError, match=f"^line 1 of the config is no plain value: {'x' * 80}$"):
        read_config_text("a = " + "x" * 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (7, "^the config is no text, but a int$"),
        ("a = 1\0", "the config is no Python: source code string cannot contain null bytes"),
        ("a = '\ud800'", "^the config is no Python: .*surrogates not allowed"),
        ("a = " + "-" * 9000 + "1", "the config is no (Python|plain value): (?!NoneType).+"),  # deeper than the stack
        ("a = 1\nb = {[]: 1}", "^line 2 of the config is no plain value: .*unhashable"),
    ],
    ids=["a number", "a null byte", "half a letter", "too deep", "a list as a key"],
)
def test_what_is_no_text_of_a_config_is_told(text: str, said: str):
    with pytest.raises(ValueError, match=said):
        read_config_text(text)
