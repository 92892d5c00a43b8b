"""`make demo`: a teacher, a student alone and a distilled student on the digits, one table, one picture.

Each step is a command of `tools/`, printed before it runs, so that a reader can repeat any of them.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmengine.runner import find_latest_checkpoint

from det_distill.compat import checkpoints
from det_distill.configs import load_config

TEACHER = "configs/digits/faster-rcnn_r18-half_fpn64_teacher.py"
STUDENT = "configs/digits/faster-rcnn_r18-quarter_fpn32.py"
DISTILLED = "configs/recipe/digits_r18-half_r18-quarter.py"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
COLUMNS = ("detector", "mAP", "AP50", "parameters", "s/image", "trained in")


def run(tool: str, *args: str) -> float:
    """Run one of `tools/`, its output passed on; returns the seconds it took.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    command = [sys.executable, f"tools/{tool}.py", *args]
    print("\n$ python", *command[1:], flush=True)
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def parameters(checkpoint: str) -> int:
    """Learnable numbers in a checkpoint."""
    weights = checkpoints.load(checkpoint)["state_dict"]
    return sum(value.numel() for name, value in weights.items() if not name.endswith(STATISTICS))


def trained(name: str, config: str, out: Path, *options: str) -> tuple[list[str], str]:
    """Train and evaluate one config; its row of the table, and the checkpoint."""
    folder = out / name.replace(" ", "-")
    seconds = run("train", config, "--work-dir", str(folder), *options)
    checkpoint = find_latest_checkpoint(str(folder))
    run("test", config, checkpoint, "--work-dir", str(folder / "test"), *options)
    metrics = metrics_of(folder / "test")
    batch = load_config(config, "config").test_dataloader.batch_size
    row = [
        name,
        f"{100 * metrics['coco/bbox_mAP']:.1f}",
        f"{100 * metrics['coco/bbox_mAP_50']:.1f}",
        f"{parameters(checkpoint) / 1e6:.2f} M",
        f"{metrics['time'] / batch:.4f}",
        f"{seconds:.0f} s",
    ]
    return row, checkpoint


def metrics_of(folder: Path) -> dict[str, float]:
    """The metrics of the last test whose work_dir a folder was, in the parts MMEngine gives them."""
    metrics: dict[str, float] = json.loads(max(folder.glob("*/*.json")).read_text())
    return metrics


def table(rows: list[list[str]]) -> str:
    """Markdown, columns aligned.

    Example:
        >>> print(table([["a", "1.0"], ["student", "22.5"]]).splitlines()[0])
        | a       | 1.0  |
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def demo(out: Path, seed: int) -> None:
    """Make the data, train three detectors with one seed, evaluate them, draw the masks; say where all lies."""
    start = time.perf_counter()
    run("prepare_data", "digits")
    options = ("--cfg-options", f"randomness.seed={seed}")
    teacher, checkpoint = trained("teacher", TEACHER, out, *options)
    alone, _ = trained("student alone", STUDENT, out, *options)
    distilled, student = trained(
        "distilled student", DISTILLED, out, *options, f"model.teacher.checkpoint={checkpoint}"
    )
    run("compare_masks", DISTILLED, "--images", "2", "--out", str(out / "masks"))
    text = table([list(COLUMNS), teacher, alone, distilled])
    (out / "table.md").write_text(text + "\n")
    print(f"\n{text}\n")
    threads = torch.get_num_threads()
    print(f"200 validation scenes, seed {seed}, torch {torch.__version__}, {threads} threads; equal budgets.")
    print(f"{time.perf_counter() - start:.0f} s in all. Table: {out / 'table.md'}; masks: {out / 'masks'}")
    print(f"The distilled student, loadable with its plain config {STUDENT}: {student}")
