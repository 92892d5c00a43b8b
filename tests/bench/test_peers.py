"""Contestants are asked for the same, and get it; and what a table of them tells."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import tiny
from det_distill.bench import contestants as named
from det_distill.bench.contestants import SINGLE_STAGE, TWO_STAGE, Contest, Pair
from det_distill.bench.peers import contest
from det_distill.bench.untrained import weights_of
from det_distill.dry_run import made_up

SHAPE = (64, 96)
RAZOR = pytest.mark.skipif(not find_spec("mmrazor"), reason="MMRazor is a peer, installed by `make benchmark-peers`")


def two_stage(folder: Path) -> tuple[str, str]:
    for name, width in (("student", 8), ("teacher", 12)):
        Config(dict(model=tiny.faster_rcnn(width))).dump(folder / f"{name}.py")
    return str(folder / "student.py"), str(folder / "teacher.py")


def ld(folder: Path) -> tuple[str, str]:
    """A student of MMDetection's LD, and a wider GFL."""
    student = tiny.single_stage("gfl")
    loss = dict(type="KnowledgeDistillationKLDivLoss", loss_weight=0.25, T=10)
    student.update(type=named.LD_STUDENT, teacher_config="elsewhere.py", teacher_ckpt="elsewhere.pth")
    student.bbox_head.update(type="LDHead", loss_ld=loss)
    Config(dict(model=student)).dump(folder / "student.py")
    Config(dict(model=tiny.single_stage("gfl", 12))).dump(folder / "teacher.py")
    return str(folder / "student.py"), str(folder / "teacher.py")


@RAZOR
@pytest.mark.parametrize(("ours", "theirs"), TWO_STAGE.rivals)
def test_the_loss_is_one_and_the_same(ours: str, theirs: str, tmp_path: Path):
    nets = two_stage(tmp_path)
    pair = Pair(*nets, weights_of(nets[1], tmp_path / "teacher.pth"))
    images = made_up(SHAPE, 2)
    own, other = (TWO_STAGE.contestants[name](pair) for name in (ours, theirs))
    own.student.load_state_dict(other.student.state_dict())
    mimic = own.loss(*images)["loss_mimic"]
    distilled = sum(value for key, value in other.loss(*images).items() if key.startswith("distill.loss"))
    assert mimic > 0
    torch.testing.assert_close(mimic, distilled)


def test_ld_and_ours_are_one_and_the_same(tmp_path: Path):
    nets = ld(tmp_path)
    pair = Pair(*nets, weights_of(nets[1], tmp_path / "teacher.pth"))
    images = made_up(SHAPE, 2)
    alone, own, other = (SINGLE_STAGE.contestants[name](pair) for name in (named.STUDENT, named.OURS_BOXES, named.LD))
    expected, ours, its = (one.loss(*images) for one in (alone, own, other))
    mimic, distilled = ours.pop("loss_mimic"), sum(its.pop("loss_ld"))
    assert mimic > 0
    torch.testing.assert_close(mimic * len(images[1]), distilled)  # LD sums over the images of a process
    for losses in (ours, its):
        assert losses.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(torch.stack(losses[key]), torch.stack(value))
    for name, value in pair.teacher().state_dict().items():
        assert torch.equal(other.teacher_model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("nets", "rules", "of_teacher"),
    [pytest.param(two_stage, TWO_STAGE, 2, marks=RAZOR), (ld, SINGLE_STAGE, 1)],
)
def test_a_table_and_a_file_tell_times_memory_and_sizes(nets, rules: Contest, of_teacher: float, tmp_path: Path):
    told = contest(*nets(tmp_path), shape=SHAPE, steps=1, out=str(tmp_path / "peers.json"))
    found = json.loads((tmp_path / "peers.json").read_text())
    for part in ("seconds", "peak_bytes", "checkpoint_bytes"):
        assert {*found[part]} == {*rules.contestants}
    assert all(name in told for name in rules.contestants)
    sizes = found["checkpoint_bytes"]
    for ours, theirs in rules.rivals:
        assert sizes[ours] == pytest.approx(sizes[named.STUDENT], rel=1e-3)
        assert sizes[theirs] >= 0.99 * of_teacher * sizes[named.STUDENT]  # MMRazor's holds the teacher too
