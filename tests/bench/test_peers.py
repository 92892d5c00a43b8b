"""Both toolkits are asked for the same, and get it; and what a table of them tells."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import tiny

pytest.importorskip("mmrazor", reason="MMRazor is a peer, installed by `make benchmark-peers`")
from det_distill.bench import peers
from det_distill.bench.untrained import weights_of
from det_distill.dry_run import made_up

SHAPE = (64, 96)


@pytest.fixture
def nets(tmp_path: Path) -> tuple[str, str]:
    for name, width in (("student", 8), ("teacher", 12)):
        Config(dict(model=tiny.faster_rcnn(width))).dump(tmp_path / f"{name}.py")
    return str(tmp_path / "student.py"), str(tmp_path / "teacher.py")


@pytest.mark.parametrize(("ours", "theirs"), [(peers.OURS, peers.RAZOR), (peers.OURS_HEAD, peers.RAZOR_HEAD)])
def test_the_loss_is_one_and_the_same(nets: tuple[str, str], ours: str, theirs: str, tmp_path: Path):
    pair = peers._Pair(*nets, weights_of(nets[1], tmp_path / "teacher.pth"))
    images = made_up(SHAPE, 2)
    own, other = (peers.CONTESTANTS[name](pair) for name in (ours, theirs))
    own.student.load_state_dict(other.student.state_dict())
    mimic = own.loss(*images)["loss_mimic"]
    distilled = sum(value for key, value in other.loss(*images).items() if key.startswith("distill.loss"))
    assert mimic > 0
    torch.testing.assert_close(mimic, distilled)


def test_a_table_and_a_file_tell_times_memory_and_sizes(nets: tuple[str, str], tmp_path: Path):
    told = peers.contest(*nets, shape=SHAPE, steps=1, out=str(tmp_path / "peers.json"))
    found = json.loads((tmp_path / "peers.json").read_text())
    for part in ("seconds", "peak_bytes", "checkpoint_bytes"):
        assert {*found[part]} == {*peers.CONTESTANTS}
    assert all(name in told for name in peers.CONTESTANTS)
    sizes = found["checkpoint_bytes"]
    assert sizes[peers.OURS] == pytest.approx(sizes[peers.STUDENT], rel=1e-3)
    assert sizes[peers.RAZOR] > 2 * sizes[peers.STUDENT]  # it holds the teacher too
