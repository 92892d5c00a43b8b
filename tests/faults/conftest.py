"""A distillation on digits, small enough to be killed often, as `tools/train.py` runs it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from det_distill.datasets import digits

EPOCHS, IMAGES = 4, 4
STUDENT, CONFIG = "digits/faster-rcnn_r18-quarter_fpn32", "configs/fgfi/digits_r18-half_r18-quarter.py"


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """The command line of a run of 4 epochs of 2 steps and 2 evaluated batches, with a teacher and adapters."""
    folder = tmp_path_factory.mktemp("digits")
    digits.prepare(folder / "digits", train=IMAGES, val=IMAGES)
    teacher = tiny.write_teacher(folder, tiny.shipped(STUDENT).model)
    loader = dict(batch_size=2, num_workers=0)
    options = {
        "data_root": folder / "digits",
        "scale": "(96,96)",
        "train_dataloader.dataset.pipeline.2.scale": "(96,96)",
        "val_dataloader.dataset.pipeline.1.scale": "(96,96)",
        "model.teacher.config": teacher["config"],
        "model.teacher.checkpoint": teacher["checkpoint"],
        "model.student.backbone.base_channels": 8,
        "model.student.neck.in_channels": "[8,16,32,64]",
        "custom_hooks.3.images": 0,  # nobody trained this teacher
        "train_cfg.max_epochs": EPOCHS,
        "train_cfg.val_interval": 1,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.save_best": "coco/bbox_mAP",
    } | {f"{split}_dataloader.{key}": value for split in ("train", "val") for key, value in loader.items()}

    def line(out: Path, *flags: str, **more: Any) -> list[str]:
        pairs = [f"{key}={value}" for key, value in (options | more).items()]
        start = [sys.executable, str(tiny.ROOT / "tools/train.py"), CONFIG, "--work-dir", str(out)]
        return [*start, *flags, "--cfg-options", *pairs]

    return line


@pytest.fixture(scope="session")
def train(command: Callable[..., list[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs it to its end."""

    def run(out: Path, *flags: str, before: Any = None, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(out, *flags, **more), cwd=tiny.ROOT, capture_output=True, text=True, timeout=600, check=False,
            preexec_fn=before,
        )  # fmt: skip

    return run
