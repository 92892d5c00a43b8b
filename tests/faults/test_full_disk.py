"""A disk without room stops a run with one clear error, and costs it nothing it had saved."""

import resource

import pytest
import torch

from det_distill.compat import checkpoints


@pytest.mark.slow
def test_a_run_out_of_room_says_so_and_resumes_once_there_is_some(tmp_path, train):
    """The system lets no file grow beyond a tenth of a checkpoint, as a quota does."""
    options = {"train_cfg.max_epochs": 1}
    assert train(tmp_path, **options).returncode == 0
    before = (tmp_path / "epoch_1.pth").read_bytes()
    few = len(before) // 10

    failed = train(tmp_path, "--resume", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (few, few)))

    assert failed.returncode != 0
    error = failed.stderr.splitlines()[-1]
    assert f"{tmp_path}/epoch_2.pth was not written: File too large; it needs 6.2 MB" in error
    assert "nothing was left of it" in error
    assert sorted(file.name for file in tmp_path.glob("*.pth*")) == ["best_coco_bbox_mAP_epoch_1.pth", "epoch_1.pth"]
    assert (tmp_path / "epoch_1.pth").read_bytes() == before

    resumed = train(tmp_path, "--resume", **{"train_cfg.max_epochs": 2})
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "resumed epoch: 1" in resumed.stdout
    assert checkpoints.load(tmp_path / "epoch_2.pth")["meta"]["epoch"] == 2
    assert isinstance(torch.load(tmp_path / "epoch_2.pth", weights_only=True)["random_streams"], list)
