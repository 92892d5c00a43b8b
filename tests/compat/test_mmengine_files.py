"""What MMEngine loads comes through the safe loader, whichever stack is installed."""

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint

import det_distill.plugins  # noqa: F401 - registers the loader
from det_distill.compat.mmengine_files import load_from_local, read, read_safely
from det_distill.weights import load_strictly


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


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a server of `tmp_path` on this machine; torch's hub keeps what it fetches in `tmp_path / hub`."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_whose_file_would_run_code_is_refused_and_has_run_nothing(tmp_path: Path, address: str) -> None:
    torch.save(dict(state_dict={}, extra=Runs(tmp_path / "mark")), tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"hub/checkpoints/evil\.pth holds .*mkdir, which could run code when loaded"):
        load_checkpoint(torch.nn.Linear(1, 1), f"{address}/evil.pth")
    assert not (tmp_path / "mark").exists()


def test_so_is_that_of_a_name_in_a_model_zoo(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(dict(state_dict={}, extra=Runs(tmp_path / "mark")), tmp_path / "evil.pth")
    zoo = dict(resnet18=f"{address}/evil.pth")
    monkeypatch.setattr(mmengine_checkpoint, "get_torchvision_models", lambda: zoo)
    with pytest.raises(ValueError, match="which could run code when loaded"):
        load_checkpoint(torch.nn.Linear(1, 1), "torchvision://resnet18")
    assert not (tmp_path / "mark").exists()


def test_weights_of_an_address_are_fetched_once(tmp_path: Path, address: str) -> None:
    trained, fresh = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    torch.save(trained.state_dict(), tmp_path / "some.pth")
    load_strictly(fresh, f"{address}/some.pth?download=1")
    assert fresh.weight.equal(trained.weight)
    (tmp_path / "some.pth").unlink()
    assert read(f"{address}/some.pth")["bias"].equal(trained.bias)


def test_an_address_with_nothing_behind_it_is_told(tmp_path: Path, address: str) -> None:
    with pytest.raises(
        ConnectionError, match=rf"{address}/none\.pth was not fetched: HTTP Error 404: .*none\.pth would"
    ):
        read(f"{address}/none.pth")
    assert not list((tmp_path / "hub").rglob("*.pth"))


def test_registering_twice_leaves_one_loader_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", {})
    read_safely()
    read_safely()
    assert CheckpointLoader._schemes == {"": load_from_local}
