"""Whatever is dropped, renamed, doubled or retyped in a config, a Distiller is built of it or a key of it is named."""

from collections.abc import Iterator
from typing import Any

import pytest
from fuzz.hostile import TOKENS, VALUES, altered, answered, cases, damaged
from hypothesis import example, given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

import tiny
from det_distill.configs import load_config, override

# Python itself says that an argument is missing, and MMEngine that a type is no name.
SPARED = (
    *("type", "student", "teacher", "terms", "stages", "task_weights", "student.type"),
    "student.data_preprocessor.pad_size_divisor",
)


def terms() -> dict[str, Any]:
    schedule = dict(type="Warmup", end=4, begin=0, by_epoch=False)
    adapter = dict(type="ConvAdapter", kernel=1)
    return dict(
        imitation=tiny.imitation(adapter=adapter, schedule=schedule, distance="cell", strides=[4, 8]),
        soft=dict(type="SoftLabels", head="roi", weight=1.0, temperature=2.0),
        box=dict(type="BoundedRegression", head="rpn", margin=0.1, nu=0.5, weight=1.0),
    )


CONFIG: dict[str, Any] = tiny.distiller(
    tiny.faster_rcnn().to_dict(),
    dict(config="teacher.py", checkpoint="teacher.pth", check_classes=True),
    terms=terms(),
    task_weights=dict(loss_cls=0.5, loss_bbox=dict(type="Ramp", start=1, stop=0, begin=0, end=9)),
    stages=[dict(until=1, terms=["imitation"], task_loss=False, train=["backbone"]), dict(terms=["soft"])],
)


@pytest.fixture(scope="module", autouse=True)
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The teacher's files, in the folder that the tests run in: their names are the same in every run."""
    folder = tmp_path_factory.mktemp("teacher")
    tiny.write_teacher(folder, tiny.faster_rcnn(fpn=24))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def needles(paths: list[tuple[Any, ...]]) -> set[str]:
    """The keys on some paths; MMDetection refuses what a part of the model makes of them, or a dry run by the terms."""
    return {key for path in paths for key in path if isinstance(key, str) and len(key) > 1} | {
        "model.",
        "model,",
        "terms",
    }


@pytest.mark.filterwarnings("ignore")
@cases(5)
@given(spoilt=altered({key: part for key, part in CONFIG.items() if key != "student"}, VALUES, SPARED))
def test_a_distiller_is_built_or_refused_by_a_key(spoilt: tuple[Any, Any]) -> None:
    config, changed = spoilt
    with answered(*needles(changed)):
        MODELS.build(ConfigDict(config, student=CONFIG["student"]))


@pytest.mark.filterwarnings("ignore")
@cases(4)
@given(spoilt=altered(dict(student=CONFIG["student"]), VALUES, SPARED))
def test_a_student_is_built_or_refused_by_a_key(spoilt: tuple[Any, Any]) -> None:
    student, changed = spoilt
    with answered(*needles(changed)):
        MODELS.build(ConfigDict(CONFIG, **student, stages=None))


KEYS = [
    "model",
    "teacher",
    "terms",
    "soft",
    "weight",
    "stages",
    "0",
    "-1",
    "type",
    "x",
    "_delete_",
    "data_root",
    "",
    " ",
]
DOTTED = st.lists(st.sampled_from(KEYS), min_size=1, max_size=5).map(".".join)
OPTIONS = st.dictionaries(DOTTED, st.sampled_from(VALUES), min_size=1, max_size=2)


@cases(4)
@given(OPTIONS)
def test_options_are_merged_or_refused_by_name(options: dict[str, Any]) -> None:
    cfg = Config(dict(model=CONFIG, data_root="data", train_dataloader=dict(dataset=dict(data_root="data"))))
    with answered(*(f"--cfg-options {key}" for key in options)):
        override(cfg, options)


FILE = b"""_base_ = ['./base.py']
model = dict(type='RetinaNet', backbone={{_base_.part}}, neck=None)
custom_imports = dict(imports=['det_distill.plugins'])
"""
BASES = [b"part = {}", b"_base_ = './config.py'", b"_base_ = './base.py'", b"raise OSError", *TOKENS[:9]]
NAMES = ["base.py", "nothing.py", "config.yaml", "config.json", "config.txt", ".", "x" * 300, "a\0b", "mmdet::x", "::"]


@pytest.mark.filterwarnings("ignore")
@cases(3)
@given(
    content=st.just(FILE) | damaged(FILE),
    base=st.sampled_from(BASES),
    name=st.sampled_from(NAMES) | st.just("config.py"),
)
@example(content=FILE, base=b"_base_ = './config.py'", name="config.py")
def test_a_config_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, base: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("configs")
    (folder / "base.py").write_bytes(base)
    for kind in ("py", "yaml", "json", "txt"):
        (folder / f"config.{kind}").write_bytes(content)
    with answered("teacher.config="):
        load_config(name if "::" in name else str(folder / name), "teacher.config")
