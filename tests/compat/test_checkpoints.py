"""MMEngine's checkpoints load safely; anything else is refused with one clear error."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

import det_distill
from det_distill.compat import checkpoints, mmengine_files, plain_numpy

PACKAGE = Path(det_distill.__file__).parent
WEIGHTS = PACKAGE.parents[1] / "shared" / "weights"


class ToyModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(2, 1)

    def forward(self, x: Tensor, mode: str = "tensor") -> Any:
        y = self.line(x)
        return {"loss": y.square().mean()} if mode == "loss" else y

    def train_step(self, data: Tensor, optim_wrapper: Any) -> dict[str, Tensor]:
        losses = self(data, mode="loss")
        optim_wrapper.update_params(losses["loss"])
        return losses


@pytest.fixture(scope="module", params=["SGD", "AdamW"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, Path]:
    """A real Runner after two iterations, and the checkpoint it wrote."""
    folder = tmp_path_factory.mktemp(request.param)
    runner = Runner(
        model=ToyModel(),
        work_dir=str(folder),
        train_dataloader=DataLoader(torch.randn(4, 2), batch_size=2),
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": request.param, "lr": 0.01}},
        param_scheduler={"type": "LinearLR", "start_factor": 0.5, "by_epoch": False, "end": 2},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
        experiment_name=f"toy_{request.param}",
        log_level="ERROR",
    )
    runner.train()
    return runner, folder / "epoch_1.pth"


@pytest.fixture
def no_safe_globals() -> Iterator[None]:
    """As in a fresh interpreter: nothing allowed beyond torch's own list."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def saved(content: Any, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


# ---------------------------------------------------------------- what must load


def check(checkpoint: dict[str, Any], runner: Runner) -> None:
    for name, value in runner.model.state_dict().items():
        assert checkpoint["state_dict"][name].equal(value)
    assert checkpoint["meta"]["iter"] == 2
    assert checkpoint["optimizer"]["param_groups"][0]["lr"] == runner.optim_wrapper.param_groups[0]["lr"]
    found, expected = checkpoint["message_hub"]["log_scalars"], runner.message_hub.log_scalars
    assert "train/loss" in found
    assert found.keys() == expected.keys()
    for name in expected:
        for got, want in zip(found[name].data, expected[name].data, strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_checkpoint_of_a_real_runner_loads(trained: tuple[Runner, Path]) -> None:
    runner, path = trained
    check(checkpoints.load(path), runner)
    check(checkpoints.load(str(path)), runner)


@pytest.mark.usefixtures("no_safe_globals")
def test_plain_torch_load_reads_it_once_the_types_are_allowed(trained: tuple[Runner, Path]) -> None:
    runner, path = trained
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    checkpoints.allow_mmengine_types()
    check(torch.load(path), runner)


def test_a_runner_resumes_from_it(trained: tuple[Runner, Path]) -> None:
    mmengine_files.read_safely()
    runner, path = trained
    losses = runner.message_hub.get_scalar("train/loss").data[0].tolist()
    runner.message_hub.log_scalars.clear()
    runner.resume(str(path))
    assert runner.iter == 2
    assert runner.message_hub.get_scalar("train/loss").data[0].tolist() == losses


@pytest.mark.usefixtures("no_safe_globals")
def test_allowing_twice_allows_the_same_few_names() -> None:
    before = len(torch.serialization.get_safe_globals())
    for _ in range(2):
        checkpoints.allow_mmengine_types()
        assert (
            len(torch.serialization.get_safe_globals()) == before + 9
        )  # HistoryBuffer, getattr, bytes, six of numpy's


@pytest.mark.usefixtures("no_safe_globals")
def test_what_others_allowed_stays_but_numpys_own_rebuilders_go(tmp_path: Path) -> None:
    torch.serialization.add_safe_globals([Path, np.ndarray, np.dtype])
    checkpoints.allow_mmengine_types()
    allowed = torch.serialization.get_safe_globals()
    assert Path in allowed
    assert np.ndarray not in allowed
    assert checkpoints.load(saved(np.arange(3), tmp_path / "a.pth")).tolist() == [0, 1, 2]


def test_a_history_buffer_round_trips(tmp_path: Path) -> None:
    buffer = HistoryBuffer([0.5, 0.25, 3.0], [1, 2, 1])
    loaded = checkpoints.load(saved(buffer, tmp_path / "buffer.pth"))
    assert [part.tolist() for part in loaded.data] == [[0.5, 0.25, 3.0], [1, 2, 1]]
    assert loaded.statistics("max") == 3.0
    assert loaded.mean() == (0.5 + 0.25 + 3.0) / (1 + 2 + 1)  # the sum of the values over the sum of the counts
    loaded.update(7.0)
    again = checkpoints.load(saved(loaded, tmp_path / "again.pth"))
    assert again.data[0].tolist() == [0.5, 0.25, 3.0, 7.0]


def test_an_unused_history_buffer_loads(tmp_path: Path) -> None:
    assert len(checkpoints.load(saved(HistoryBuffer(), tmp_path / "unused.pth")).data[0]) == 0


ARRAYS = {
    "int64": np.array([1, -2, 2**40]),
    "float32": np.array([0.1, np.inf], np.float32),
    "float16": np.array([0.5], np.float16),
    "bool": np.array([True, False]),
    "uint8": np.arange(200, 203, dtype=np.uint8),
    "Fortran order": np.arange(6.0).reshape(2, 3).T,
    "big-endian": np.array([1, 256], ">i4"),
    "no axis": np.array(2.5),
    "empty": np.zeros((0, 4)),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_a_numpy_array_round_trips(array: np.ndarray, tmp_path: Path) -> None:
    loaded = checkpoints.load(saved(array, tmp_path / "a.pth"))
    assert isinstance(loaded, np.ndarray)
    assert loaded.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded, array)


def test_a_loaded_array_pickles_as_numpys_own(tmp_path: Path) -> None:
    loaded = checkpoints.load(saved(np.arange(3), tmp_path / "a.pth"))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert type(pickle.loads(pickle.dumps(loaded, protocol))) is np.ndarray


@pytest.mark.parametrize("code", "?bhilqBHILQefd")
def test_a_numpy_scalar_round_trips(code: str, tmp_path: Path) -> None:
    value = np.dtype(code).type(1)
    loaded = checkpoints.load(saved({"lr": value}, tmp_path / "s.pth"))["lr"]
    assert loaded == value
    assert loaded.dtype == value.dtype


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"], ids=["written by numpy 1", "written by numpy 2"])
def test_pickles_of_both_numpy_generations_load(core: bytes, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    new = saved([np.float64(0.5), np.arange(3)], tmp_path / "new.pth")
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core)
                assert core in data
            target.writestr(name, data)
    scalar, array = checkpoints.load(path)
    assert scalar == 0.5
    assert array.tolist() == [0, 1, 2]


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["yunet", "shufflenetv2_0.5x"])
def test_released_weights_load(folder: str) -> None:
    paths = sorted((WEIGHTS / folder).glob("*.pth"))
    if not paths:
        pytest.skip(f"no *.pth in ../shared/weights/{folder}")
    for path in paths:
        checkpoint = checkpoints.load(path)
        state = checkpoint.get("state_dict", checkpoint)
        assert state
        assert all(isinstance(value, Tensor) for value in state.values())


# ---------------------------------------------------------------- what must be refused


class Bomb:
    """Leaves a file behind if unpickled with full rights."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


class Shell(Bomb):
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'mkdir "{self.marker}"',)


def bare(content: Any, path: Path) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def legacy(content: Any, path: Path) -> Path:
    return saved(content, path, _use_new_zipfile_serialization=False)


writers = pytest.mark.parametrize("write", [saved, legacy, bare])


@writers
@pytest.mark.parametrize("kind", [Bomb, Shell])
def test_a_malicious_checkpoint_does_not_run(
    kind: type[Bomb], write: Callable[[Any, Path], Path], tmp_path: Path
) -> None:
    bomb = kind(tmp_path / "ran")
    path = write({"state_dict": {}, "meta": bomb}, tmp_path / "bad.pth")
    function = bomb.__reduce__()[0]
    with pytest.raises(
        ValueError, match=rf"bad\.pth holds {function.__module__}\.{function.__name__}, which could run"
    ):
        checkpoints.load(path)
    assert not bomb.marker.exists()

    pickle.loads(pickle.dumps(bomb))  # the bomb is live: plain pickle sets it off
    assert bomb.marker.exists()


class Foreign:
    """No type of MMEngine's."""


@writers
def test_a_foreign_class_is_refused_by_name(write: Callable[[Any, Path], Path], tmp_path: Path) -> None:
    path = write({"meta": Foreign()}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match=r"holds \S*test_checkpoints\.Foreign, which") as caught:
        checkpoints.load(path)
    assert "Save its state_dict() instead" in str(caught.value)


class Lookup:
    """Asks for an attribute as a pickled bound method does."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.owner, self.name)


@pytest.mark.parametrize("name", ["__init__", "register_statistics", "__subclasses__"])
def test_getattr_gives_no_more_than_a_buffers_own_statistics(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds builtins\.getattr"):
        checkpoints.load(saved(Lookup(HistoryBuffer, name), tmp_path / "getattr.pth"))
    assert checkpoints.load(saved(Lookup(HistoryBuffer, "mean"), tmp_path / "mean.pth")) is HistoryBuffer.mean


@pytest.mark.parametrize(
    "content",
    [np.array([object()]), np.array(["text"]), np.zeros(2, [("a", "f4")]), np.zeros(1, "M8[s]"), np.array([1j])],
    ids=["objects", "text", "records", "dates", "complex"],
)
def test_arrays_of_anything_but_plain_numbers_are_refused(content: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.pth"):
        checkpoints.load(saved(content, tmp_path / "a.pth"))


def test_forged_dtype_flags_are_not_believed() -> None:
    # numpy's own setstate takes flags 63 to mean "these bytes are object pointers", and crashes.
    number = plain_numpy.Number("f8", False, True)
    number.__setstate__((3, "<", None, None, None, -1, -1, 63))
    array = plain_numpy.Array()
    array.__setstate__((1, (1,), number, False, b"\x01" * 8))
    assert number.dtype.flags == np.dtype("f8").flags
    assert array.tolist() == np.frombuffer(b"\x01" * 8).tolist()


def test_an_array_whose_bytes_do_not_fill_its_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        plain_numpy.Array().__setstate__((1, (10**6,), plain_numpy.Number("f8"), False, b"few"))
    with pytest.raises(pickle.UnpicklingError, match="scalar"):
        plain_numpy.scalar(plain_numpy.Number("f8"), b"few")


def plausible() -> dict[str, Any]:
    """Small, but with one of everything MMEngine writes."""
    return {
        "state_dict": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)},
        "message_hub": {"log_scalars": {"loss": HistoryBuffer([1.0, 0.5], [1, 1])}},
        "meta": {"epoch": np.int64(1), "lr": np.float64(0.1), "cfg": "a = 1"},
    }


def as_bytes(zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(plausible(), stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


WHOLE = {"zip": as_bytes(True), "legacy": as_bytes(False)}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged.pth"


@pytest.mark.parametrize("layout", WHOLE)
@pytest.mark.parametrize("part", [0, 1, 2, 100, 0.25, 0.5, 0.9, -1], ids=str)
def test_a_truncated_file_is_a_value_error(layout: str, part: float, scratch: Path) -> None:
    whole = WHOLE[layout]
    size = int(part * len(whole)) if 0 < part < 1 else int(part) % len(whole)
    scratch.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=rf"damaged\.pth \({size} bytes\) is truncated or no torch checkpoint: \S+"):
        checkpoints.load(scratch)


@pytest.mark.parametrize(
    "content",
    [b"model = dict(type='FasterRCNN')\n", b"<html>404</html>", b"\x00" * 64, np.random.default_rng(7).bytes(4096)],
    ids=["config", "web page", "zeros", "noise"],
)
def test_what_is_no_checkpoint_is_a_value_error(content: bytes, scratch: Path) -> None:
    scratch.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pth \(\d+ bytes\) is truncated or no torch checkpoint"):
        checkpoints.load(scratch)


def loads_or_is_refused(content: bytes, path: Path) -> None:
    """Anything but a ValueError passes through and fails the test."""
    path.write_bytes(content)
    try:
        checkpoints.load(path)
    except ValueError as error:
        text = str(error)
        assert str(path) in text
        assert not re.search("weights_only|can still be loaded", text)  # torch's advice to load without safety
        assert "\n" not in text


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@given(content=st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_random_bytes_load_or_are_refused(content: bytes, scratch: Path) -> None:
    loads_or_is_refused(content, scratch)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("layout", WHOLE)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_checkpoint_loads_or_is_refused(layout: str, data: st.DataObject, scratch: Path) -> None:
    whole = bytearray(WHOLE[layout])
    for _ in range(data.draw(st.integers(1, 4), label="damaged bytes")):
        whole[data.draw(st.integers(0, len(whole) - 1), label="at")] = data.draw(st.integers(0, 255), label="value")
    stop = data.draw(st.just(len(whole)) | st.integers(0, len(whole)), label="truncated to")
    loads_or_is_refused(bytes(whole[:stop]), scratch)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_the_damage_reaches_numpys_state(tmp_path: Path) -> None:
    """Every byte of a pickled dtype, array and scalar set to two values; numpy's own rebuilders crash here."""
    stream = io.BytesIO()
    torch.save([np.arange(2.0), np.float64(1)], stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    start = whole.index(b"numpy")
    for at in range(start, whole.index(b".", whole.rindex(b"latin1"))):
        for value in (1, 63):
            loads_or_is_refused(whole[:at] + bytes([value]) + whole[at + 1 :], tmp_path / "x.pth")


def test_an_endless_name_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02c" + 2000 * b"a" + b"\n" + 2000 * b"b" + b"\n.")
    with pytest.raises(ValueError, match=r"a\.pth") as caught:
        checkpoints.load(tmp_path / "a.pth")
    assert len(str(caught.value)) < 1500


# ---------------------------------------------------------------- missing files


def test_a_missing_file_names_the_nearest_sibling(tmp_path: Path) -> None:
    for name in ("epoch_12.pth", "teacher.log"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"epoch_21\.pth not found; did you mean .*epoch_12\.pth\?"):
        checkpoints.load(tmp_path / "epoch_21.pth")


def test_a_missing_file_without_a_similar_sibling_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds nothing of a similar name"):
        checkpoints.load(tmp_path / "epoch_21.pth")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*work_dir does not exist"):
        checkpoints.load(tmp_path / "work_dir" / "epoch_1.pth")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not found"):
        checkpoints.load(tmp_path)


# ---------------------------------------------------------------- the promise


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    assert not checkpoints.is_file(tmp_path / ("x" * 300))
    with pytest.raises(FileNotFoundError, match="File name too long"):
        checkpoints.load(tmp_path / ("x" * 300) / "a.pth")


def test_a_name_that_is_half_alike_is_offered(tmp_path: Path) -> None:
    (tmp_path / "ab.pth").touch()  # of 2 * 5 letters and "d.pth" in common: 2 * 4 / 12 = 0.67; "zzzzz.xyz": 2 * 1 / 15
    assert "did you mean" in checkpoints.nearest_file(tmp_path / "cd.pth")
    (tmp_path / "ab.pth").rename(tmp_path / "abcdxyzuvw")  # 2 * 4 / 19 = 0.42, and 2 * 3 / 18 = 0.33
    assert "did you mean" in checkpoints.nearest_file(tmp_path / "abcd12345")
    assert "nothing of a similar name" in checkpoints.nearest_file(tmp_path / "abc12345")


def test_an_error_without_words_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: Any, **_options: Any) -> None:
        raise EOFError

    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(ValueError, match=r"a\.pth \(1 bytes\) is truncated or no torch checkpoint: EOFError$"):
        checkpoints.load(tmp_path / "a.pth")


@pytest.mark.parametrize("more", [0, 1])
def test_members_may_be_as_large_as_the_file_and_no_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    torch.save({"a": 1}, tmp_path / "a.pth")
    size = (tmp_path / "a.pth").stat().st_size + more
    with zipfile.ZipFile(tmp_path / "a.pth") as file:
        told = sum(member.file_size for member in file.infolist()[1:])
    original = zipfile.ZipFile.infolist

    def claims(file: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        found = original(file)
        found[0].file_size = size - told
        return found

    monkeypatch.setattr(zipfile.ZipFile, "infolist", claims)
    if more:
        with pytest.raises(ValueError, match=f"its members would unpack to {size} bytes$"):
            checkpoints.load(tmp_path / "a.pth")
    else:
        assert checkpoints.load(tmp_path / "a.pth") == {"a": 1}


def test_the_safe_loader_is_turned_off_nowhere() -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))]
    assert sources
    for source in sources:
        assert "weights_only=False" not in source.replace(" ", "")
