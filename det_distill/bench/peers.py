"""Other toolkits beside this one, on the same nets and the same images, timed in turns."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from det_distill.bench.contestants import STUDENT, Pair, step
from det_distill.bench.memory import living, peak
from det_distill.bench.record import opened
from det_distill.bench.turns import in_turns, milliseconds, ratio
from det_distill.bench.untrained import weights_of
from det_distill.dry_run import made_up
from det_distill.overview import table

HEAD = ["", "ms a step", "over student + the teacher's part", "peak memory, MB", "checkpoint, MB"]


def contest(
    student: str,
    teacher: str,
    shape: Sequence[int] = (800, 1333),
    batch: int = 2,
    steps: int = 10,
    device: str = "cpu",
    out: str | None = None,
) -> str:
    """Time a step (losses and backward pass) of each contestant in turns, and meter the memory of its tensors.

    On two-stage detectors with a pyramid the peer is MMRazor; both toolkits take the mean squared gap of the same maps:
    of the neck, for which a teacher's backbone and neck suffice, and of the RPN's scores, for which MMRazor runs the
    teacher's whole training forward. On GFL it is MMDetection's own LD, and the same loss here.

    Args:
        student: Config of a two-stage detector with a pyramid, or MMDetection's of LD; a path or `mmdet::name`.
        teacher: Config of one with the same pyramid.
        shape: Height and width of the images, which are noise with eight boxes.
        batch: Images a step.
        steps: Rounds; medians are told. One more comes first, to warm up.
        device: Where, such as "cuda".
        out: JSON file for everything measured.

    Returns:
        A table.

    Raises:
        FileNotFoundError: No such config.
        ImportError: MMRazor is not installed.
        OSError: `out` cannot be written, before anything is timed.
    """
    file = opened(out) if out else None
    with TemporaryDirectory() as folder:
        weights = Path(folder, "teacher.pth")
        pair = Pair(student, teacher, str(weights))
        rules = pair.contest
        weights_of(teacher, weights)
        images = made_up((shape[0], shape[1]), batch, device=device)
        models = {name: make(pair) for name, make in rules.contestants.items()}
        for model in models.values():
            model.to(device)
        calls = {name: partial(step, name, model, *images) for name, model in models.items()}
        times = in_turns(calls, steps, device)
        sizes = {name: _size(model, Path(folder, "size.pth")) for name, model in models.items()}
        del models, calls
        peaks = {name: _peak(partial(make, pair), name, images, device) for name, make in rules.contestants.items()}
    if file:
        told = dict(torch=torch.__version__, device=device, batch=batch, shape=list(shape), seconds=times)
        file.write_text(json.dumps(told | dict(peak_bytes=peaks, checkpoint_bytes=sizes), indent=1))
    rows = []
    for name in rules.contestants:
        cost = ratio(times[name], times[STUDENT], times[rules.needed])
        rows.append([name, milliseconds(times[name]), f"{cost:.3f}", _mega(peaks[name]), _mega(sizes[name])])
    for ours, theirs in rules.rivals:
        cost, memory, size = ratio(times[ours], times[theirs]), peaks[ours] / peaks[theirs], sizes[ours] / sizes[theirs]
        rows.append([f"{ours}, over the peer's", f"x {cost:.3f}", "", f"x {memory:.2f}", f"x {size:.2f}"])
    return table(f"batch {batch}, {shape[1]}x{shape[0]}, medians of {steps} on {device}", HEAD, rows)


def _mega(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _size(model: nn.Module, file: Path) -> int:
    torch.save(model.state_dict(), file)
    return file.stat().st_size


def _peak(make: Callable[[], nn.Module], name: str, images: tuple[Any, list[Any]], device: str) -> int:
    """Bytes of a contestant's tensors at the fullest moment of its second step, in which gradients live already."""
    _, before = living()
    model = make().to(device)
    step(name, model, *images)
    held = living()[1] - before
    return held + peak(partial(step, name, model, *images), device)
