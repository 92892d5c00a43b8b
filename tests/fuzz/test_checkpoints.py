"""Whatever a checkpoint holds, it is loaded or refused by its name, and nothing in it runs."""

import builtins
import io
import os
import pathlib
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz.hostile import VALUES, altered, answered, cases, damaged
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from det_distill.compat.config_text import read_config_text
from det_distill.weights import fill, load_strictly

STATE = dict(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict())
CHECKPOINT = dict(
    state_dict=STATE,
    message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0, 0.5], [1, 1]))),
    optimizer=dict(param_groups=[dict(lr=np.float64(0.1), params=[0, 1])]),
    meta=dict(epoch=np.int64(1), cfg="a = 1", seed=7),
)
TENSORS = [
    torch.zeros(2, 3, device="meta"),
    torch.zeros(2, 3).to_sparse(),
    torch.full((2, 3), float("nan")),
    torch.full((2, 3), float("inf")),
    torch.zeros(2, 3, dtype=torch.complex64),
    torch.zeros(1).expand(2, 3),
    torch.zeros(2, 3, dtype=torch.int64),
    torch.zeros(2, 3, dtype=torch.float16),
    torch.nn.Parameter(torch.zeros(2, 3)),
]


def net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def as_bytes(content: Any, layout: str) -> bytes:
    buffer = io.BytesIO()
    if layout == "bare":
        pickle.dump(content, buffer, protocol=2)
    else:
        torch.save(content, buffer, _use_new_zipfile_serialization=layout == "zip")
    return buffer.getvalue()


WHOLE = {layout: as_bytes(CHECKPOINT, layout) for layout in ("zip", "legacy")}
LAYOUTS = st.sampled_from(["zip", "legacy", "bare"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints") / "e.pth"


@pytest.mark.filterwarnings("ignore")
@cases(6)
@given(st.sampled_from(sorted(WHOLE)).flatmap(lambda layout: damaged(WHOLE[layout])))
def test_a_damaged_checkpoint_fills_a_model_or_is_refused_by_name(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with answered("e.pth"):
        load_strictly(net(), str(path))


@pytest.mark.filterwarnings("ignore")
@cases(7)
@given(spoilt=altered(CHECKPOINT, VALUES + TENSORS), layout=LAYOUTS)
def test_a_checkpoint_of_other_things_fills_a_model_or_is_refused_by_name(path: Path, spoilt: Any, layout: str) -> None:
    path.write_bytes(as_bytes(spoilt[0], layout))
    with answered("e.pth"):
        load_strictly(net(), str(path))
    with answered("e.pth"):
        fill(net(), spoilt[0], "e.pth", "the config")


class Reducer:
    """Calls a function when unpickled with full rights."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __deepcopy__(self, _memo: Any) -> "Reducer":
        return self  # a copy would call it too

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(marker: str) -> list[Reducer]:
    """Ways to leave a folder behind."""
    return [
        Reducer(os.mkdir, marker),
        Reducer(os.system, f"mkdir {marker}"),
        Reducer(subprocess.call, ["mkdir", marker]),
        Reducer(builtins.eval, f"__import__('os').mkdir({marker!r})"),
        Reducer(builtins.exec, f"import os; os.mkdir({marker!r})"),
        Reducer(shutil.copytree, os.path.dirname(marker) + "/empty", marker),
        Reducer(pathlib.Path.mkdir, Path(marker)),
        Reducer(Path(marker).mkdir),
        Reducer(torch.load, marker),
        Reducer(torch.hub.load, os.path.dirname(marker), "empty"),
    ]


@cases(5)
@given(which=st.integers(0, 9), layout=LAYOUTS, data=st.data())
def test_nothing_in_a_checkpoint_runs(path: Path, which: int, layout: str, data: st.DataObject) -> None:
    marker = path.parent / "ran"
    (path.parent / "empty").mkdir(exist_ok=True)
    spoilt, _ = data.draw(altered(CHECKPOINT, [attacks(str(marker))[which]]))
    path.write_bytes(as_bytes(spoilt, layout))
    with answered("e.pth"):
        load_strictly(net(), str(path))
    assert not marker.exists()


CONFIG = Config(
    dict(
        model=dict(type="RetinaNet", backbone=dict(type="ResNet", depth=18, out_indices=(0, 1)), neck=None),
        scale=(320, -240),
        lr=0.1,
        hooks=[dict(type="det_distill.models.rfcn.RFCN", end=float("inf")), {"a b": 1}],
    )
).pretty_text.encode()


@cases(9)
@given(damaged(CONFIG))
def test_a_dumped_config_is_read_or_refused_by_line(content: bytes) -> None:
    with answered("of the config", "the config is no"):
        found = read_config_text(content.decode(errors="surrogateescape"))
        assert isinstance(found, dict)
