"""Which checkpoint `--resume` takes, whatever a killed run left behind, and what is said of those it cannot take."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from det_distill.resume import checked, find_start, newest, resumable


def written(file: Path, **content: object) -> Path:
    torch.save(dict(meta=dict(epoch=1), message_hub={}, state_dict={}) | content, file)
    return file


def truncated(file: Path) -> Path:
    written(file)
    file.write_bytes(file.read_bytes()[:-100])
    return file


def test_the_note_is_believed_where_what_it_names_is_whole(tmp_path):
    for number in (9, 10):
        written(tmp_path / f"epoch_{number}.pth")
    (tmp_path / "last_checkpoint").write_text(f"{tmp_path}/epoch_9.pth\n")
    assert newest(tmp_path) == (f"{tmp_path}/epoch_9.pth", "")


@pytest.mark.parametrize("note", [None, "", "{folder}/epo", "{folder}/epoch_11.pth"], ids=str)
def test_without_a_good_note_it_is_the_highest_number_and_a_warning(tmp_path, note):
    for name in ("epoch_9", "epoch_10", "best_coco_bbox_mAP_epoch_12", "epoch_x", "epoch_13-0a1b2c3d"):
        written(tmp_path / f"{name}.pth")
    written(tmp_path / "epoch_14.pth.part")
    if note is not None:
        (tmp_path / "last_checkpoint").write_text(note.format(folder=tmp_path))
    found, told = newest(tmp_path)
    assert found == f"{tmp_path}/epoch_10.pth"
    assert f"last_checkpoint {'is missing' if note is None else 'names' if note else 'is empty'}" in told
    assert f"resuming from {found}, the newest whole one" in told


def test_iterations_are_numbers_too(tmp_path):
    for number in (900, 1000):
        written(tmp_path / f"iter_{number}.pth")
    assert newest(tmp_path)[0] == f"{tmp_path}/iter_1000.pth"


def test_a_truncated_one_is_passed_over_and_named(tmp_path):
    written(tmp_path / "epoch_1.pth")
    broken = truncated(tmp_path / "epoch_2.pth")
    (tmp_path / "last_checkpoint").write_text(str(broken))
    found, told = newest(tmp_path)
    assert found == f"{tmp_path}/epoch_1.pth"
    assert f"{broken} ({broken.stat().st_size} bytes) is truncated" in told


def test_where_none_is_whole_the_run_does_not_start_over(tmp_path):
    truncated(tmp_path / "epoch_2.pth")
    with pytest.raises(ValueError, match=r"can be resumed from: checkpoint .*epoch_2\.pth .*truncated"):
        newest(tmp_path)


@pytest.mark.parametrize("made", [True, False])
def test_where_there_is_none_training_starts_and_says_so(tmp_path, made):
    folder = tmp_path / "run"
    if made:
        folder.mkdir()
        written(folder / "best_coco_bbox_mAP_epoch_12.pth")
    found, told = newest(folder)
    assert found is None
    assert told == f"nothing to resume from in {folder}: training starts from the beginning"


@pytest.mark.parametrize("flag", [None, "auto", "{folder}/epoch_1.pth"], ids=str)
@pytest.mark.parametrize("asked", [False, True], ids=["", "config says resume"])
@pytest.mark.parametrize("base", [None, "{folder}/base.pth"], ids=str)
@pytest.mark.parametrize("saved", [False, True], ids=["", "epoch 2 saved"])
def test_flag_and_config_agree_on_where_a_run_starts(tmp_path, flag, asked, base, saved):
    """Judged by a table: MMEngine's, but that a run which finds nothing to resume from keeps its config's start."""
    for name in ("base", "epoch_1"):
        (tmp_path / "other").mkdir(exist_ok=True)
        written(tmp_path / f"other/{name}.pth")
    flag, base = (text and text.format(folder=tmp_path / "other") for text in (flag, base))
    (tmp_path / "run").mkdir()
    if saved:
        written(tmp_path / "run/epoch_2.pth")
    cfg = Config(dict(work_dir=str(tmp_path / "run"), load_from=base, resume=asked))

    told = find_start(cfg, flag)

    looked = flag == "auto" or (flag is None and asked and base is None)
    if looked:
        want = (True, f"{tmp_path}/run/epoch_2.pth") if saved else (False, base)
    else:
        want = (asked, base) if flag is None else (True, flag)
    assert (cfg.resume, cfg.load_from) == want
    assert bool(told) == looked


@pytest.mark.parametrize("use", [checked, resumable])
def test_a_truncated_or_foreign_file_is_one_line_without_wrong_advice(tmp_path, use):
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save(dict(meta=Path("a")), tmp_path / "foreign.pth")
    truncated(tmp_path / "short.pth")
    for name, words in (("text", "no torch checkpoint"), ("short", "truncated"), ("foreign", "could run code")):
        with pytest.raises(ValueError, match=rf"{name}\.pth.*{words}") as caught:
            use(str(tmp_path / f"{name}.pth"))
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)


def test_weights_alone_can_be_started_from_and_not_resumed(tmp_path):
    file = tmp_path / "student.pth"
    torch.save(dict(state_dict={}, meta={}), file)
    assert checked(str(file)) == str(file)
    with pytest.raises(ValueError, match=r"student\.pth has no entry 'message_hub'.*load_from"):
        resumable(str(file))


def test_addresses_pass():
    for address in ("https://example.org/a.pth", "torchvision://resnet50"):
        assert checked(address) == resumable(address) == address
