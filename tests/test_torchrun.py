"""tools/train.py under torchrun, two processes on CPUs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny

HOOKS = ("AdapterStateHook", "ExactResumeHook", "StagesHook", "ReconstructionHook", "DumpHook")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("data"))


def config(folder: Path, data: Path, name: str, **model: Any) -> Path:
    """A training of three epochs, as a file."""
    distilled = tiny.distiller(tiny.faster_rcnn(8), tiny.write_teacher(folder, tiny.faster_rcnn(12)), **model)
    cfg = tiny.run_config(data, folder / name, distilled, log_level="INFO")
    cfg.custom_hooks = [dict(type=one) for one in HOOKS]
    cfg.custom_imports = dict(imports=["det_distill.plugins", "dump_hook"])
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.default_hooks.logger.interval = 1
    cfg.dump(folder / f"{name}.py")
    return folder / f"{name}.py"


def train(file: Path, *flags: str) -> str:
    """What two processes say that train by a config."""
    return tiny.two_processes(tiny.ROOT / "tools/train.py", file, "--launcher", "pytorch", *flags)


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    """Of student and adapters, as a rank had them at the end."""
    return torch.load(folder / f"rank{rank}.pth")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[key]) for key, value in one.items())


def test_a_run_of_two_resumes_to_the_bit_and_goes_on_with_one(tmp_path, data, monkeypatch):
    late = dict(type="Window", begin=2, end=100)  # until then nothing but DDP asks for its adapters' gradients
    init = dict(type="WeightSelection", reconstruct=dict(images=3, rows=100))
    terms = dict(imitation=tiny.imitation(schedule=late))
    file, out = config(tmp_path, data, "run", terms=terms, init_cfg=init), tmp_path / "run"
    assert train(file).count("layers fitted on 3 images") == 1  # the first process logs
    whole = weights(out)
    assert same(whole, weights(out, 1))

    told = train(file, "--resume", str(out / "epoch_2.pth"))
    assert same(whole, weights(out))
    assert "not to the bit" not in told
    assert "layers fitted" not in told

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    done = tiny.tool("train", file, "--resume", out / "epoch_2.pth")
    assert "not to the bit" in done.stdout + done.stderr
    assert not same(whole, weights(out))


def test_stages_keep_the_ranks_together_without_a_flag(tmp_path, data):
    stages = [
        dict(until=1, terms=["imitation"], task_loss=False),  # the heads do not run
        dict(until=2, terms=[], train=["roi_head"]),  # nothing else learns
        dict(terms=["imitation"]),
    ]
    told = train(config(tmp_path, data, "stages", stages=stages))
    assert re.search("stage 2 begins", told)
    assert same(weights(tmp_path / "stages"), weights(tmp_path / "stages", 1))
