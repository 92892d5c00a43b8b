"""A file under its final name is whole at every moment, whatever happens to its writer or the disk."""

import errno
import json
import os
import random
import signal
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmengine.fileio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.fileio.backends import registry_utils

import det_distill.plugins  # noqa: F401 - has MMEngine write whole files
from det_distill.compat import whole_files
from det_distill.compat.whole_files import WholeFiles

SIZE = 4_000_000


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(old=st.none() | st.binary(), new=st.binary())
def test_what_is_put_is_what_is_there(tmp_path: Path, old: bytes | None, new: bytes) -> None:
    file = tmp_path / "deep/er/a.pth"
    if old is not None:
        mmengine.fileio.put(old, file)
        assert file.read_bytes() == old
    mmengine.fileio.put(new, file)
    assert file.read_bytes() == new
    assert [entry.name for entry in file.parent.iterdir()] == ["a.pth"]


def test_text_keeps_its_encoding(tmp_path: Path) -> None:
    mmengine.fileio.put_text("Größe\n", tmp_path / "a.txt")
    WholeFiles().put_text("Größe\n", tmp_path / "b.txt", encoding="latin1")
    mmengine.dump(dict(a=[1, 2]), tmp_path / "c.json")
    assert (tmp_path / "a.txt").read_bytes() == b"Gr\xc3\xb6\xc3\x9fe\n"
    assert (tmp_path / "b.txt").read_bytes() == b"Gr\xf6\xdfe\n"
    assert json.loads((tmp_path / "c.json").read_text()) == dict(a=[1, 2])


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file_whole(tmp_path: Path) -> None:
    file, dice, left = tmp_path / "a.pth", random.Random(7), 0
    WholeFiles().put(b"a" * SIZE, file)
    for _ in range(25):
        child = os.fork()
        if child == 0:  # does nothing but write, until it is killed
            while True:
                for letter in (b"b", b"c"):
                    WholeFiles().put(letter * SIZE, file)
        time.sleep(dice.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = file.read_bytes()
        assert len(content) == SIZE
        assert len(set(content)) == 1
        left += file.with_name("a.pth.part").exists()
    assert left  # some kills did fall into the writing


def test_the_content_is_on_the_disk_before_the_name_is_its_own(tmp_path: Path, monkeypatch: Any) -> None:
    """A power cut after the renaming must not find an empty file: content, then name, then the folder's entry."""
    told = []

    def fsync(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes"
        told.append(f"fsync {kind}")

    replace = os.replace
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *names: (told.append("replace"), replace(*names)))
    WholeFiles().put(bytes(1000), tmp_path / "a.pth")
    assert told == ["fsync 1000 bytes", "replace", "fsync folder"]


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EFBIG", "EIO"])
@pytest.mark.parametrize("old", [None, b"old"], ids=["new file", "old file"])
def test_a_full_disk_is_one_clear_error_and_costs_nothing(
    tmp_path: Path, monkeypatch: Any, code: str, old: bytes | None
) -> None:
    file, number = tmp_path / "epoch_3.pth", getattr(errno, code)
    if old is not None:
        file.write_bytes(old)

    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    def room(folder: Path) -> SimpleNamespace:
        assert not list(folder.glob("*.part"))  # what was written of it is free again
        return SimpleNamespace(free=1_040_000)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(whole_files, "disk_usage", room)
    with pytest.raises(OSError, match="epoch_3") as caught:
        WholeFiles().put(bytes(2_500_000), file)

    assert caught.value.errno == number
    text = str(caught.value)
    assert f"{file} was not written: {os.strerror(number)}; it needs 2.5 MB, 1.0 MB are free there" in text
    assert text.endswith("what it held before is intact" if old else "nothing was left of it")
    assert "\n" not in text
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({"epoch_3.pth": old} if old else {})


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: Any) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        WholeFiles().put(b"new", tmp_path / "a.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pth.part").mkdir()  # nobody can open it for writing, root included
    with pytest.raises(IsADirectoryError, match=r"a\.pth was not written"):
        WholeFiles().put(b"new", tmp_path / "a.pth")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.pth").symlink_to("elsewhere/b.pth")
    WholeFiles().put(b"new", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").is_symlink()
    assert (tmp_path / "elsewhere/b.pth").read_bytes() == b"new"


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    WholeFiles().put(b"new", pipe)
    assert os.read(reader, 10) == b"new"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_registering_twice_leaves_one_backend_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_utils, "backends", {})
    monkeypatch.setattr(registry_utils, "prefix_to_backends", {})
    whole_files.write_whole_files()
    whole_files.write_whole_files()
    assert registry_utils.backends == {"local": WholeFiles}
    assert registry_utils.prefix_to_backends == {"": WholeFiles}
