"""What MMEngine loads from a file comes through the safe loader, whichever stack is installed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint

import det_distill.plugins  # noqa: F401 - registers the loader
from det_distill.compat.mmengine_files import load_from_local, read_files_safely


class Runs:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_a_file_that_would_run_code_is_refused_and_has_run_nothing(tmp_path: Path) -> None:
    torch.save(dict(state_dict={}, extra=Runs(tmp_path / "mark")), tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth holds .*mkdir, which could run code when loaded"):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "mark").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)  # it does run code where safety is off
    assert (tmp_path / "mark").exists()


def test_weights_arrive_in_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, fresh = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    torch.save(dict(state_dict=trained.state_dict(), meta=dict(seed=np.int64(3))), tmp_path / "some.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = load_checkpoint(fresh, "~/some.pth", map_location="meta")
    assert fresh.weight.equal(trained.weight)
    assert fresh.bias.equal(trained.bias)
    assert loaded["meta"] == dict(seed=3)


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "epoch_12.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"epoch_13\.pth not found; did you mean .*epoch_12\.pth"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "epoch_13.pth"))


def test_addresses_keep_their_own_loader() -> None:
    assert CheckpointLoader._get_checkpoint_loader("https://host/a.pth").__module__ == "mmengine.runner.checkpoint"


def test_registering_twice_leaves_one_loader_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", {})
    read_files_safely()
    read_files_safely()
    assert CheckpointLoader._schemes == {"": load_from_local}
