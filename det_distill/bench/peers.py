"""Other toolkits beside this one, on the same nets, the same images and the same loss, timed in turns."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import nn

from det_distill.bench.memory import peak
from det_distill.bench.razor import distiller
from det_distill.bench.turns import in_turns, milliseconds, ratio
from det_distill.bench.untrained import weights_of, without_files
from det_distill.building import build_detector
from det_distill.configs import load_config
from det_distill.dry_run import go_back, made_up
from det_distill.overview import table
from det_distill.weights import load_strictly

STUDENT, FEATURES = "student alone", "teacher, backbone and neck"
OURS, RAZOR = "det_distill, neck", "MMRazor FpnTeacherDistill, neck"
OURS_HEAD, RAZOR_HEAD = "det_distill, RPN scores", "MMRazor SingleTeacherDistill, RPN scores"
HEAD = ["", "ms a step", "over student + teacher features", "peak memory, MB", "checkpoint, MB"]


class _Pair:
    """Two detectors by their configs, the teacher's weights in a file; builds each contestant anew."""

    def __init__(self, student: str, teacher: str, weights: str) -> None:
        register_all_modules()
        self.student_cfg = without_files(load_config(student, "student").model)
        self.teacher_cfg, self.weights = teacher, weights

    def student(self) -> Any:
        torch.manual_seed(0)  # one and the same start
        return build_detector(self.student_cfg).train()

    def teacher(self) -> Any:
        model = build_detector(without_files(load_config(self.teacher_cfg, "teacher").model))
        load_strictly(model, self.weights)
        return model.eval()

    def ours(self, tap: str) -> Any:
        teacher = dict(config=self.teacher_cfg, checkpoint=self.weights)
        term = dict(type="FeatureImitation", tap=tap, mask=dict(type="FullMask"), distance="l2", adapter=None, weight=1)
        torch.manual_seed(0)
        cfg = dict(type="Distiller", student=self.student_cfg, teacher=teacher, terms=dict(mimic=term))
        return MODELS.build(cfg).train()

    def razor(self, kind: str, source: str, by_call: bool) -> Any:
        levels = self.student_cfg["neck"]["num_outs"]
        return distiller(kind, self.student(), self.teacher(), source, levels, by_call)


CONTESTANTS: dict[str, Callable[[_Pair], nn.Module]] = {
    STUDENT: _Pair.student,
    FEATURES: _Pair.teacher,
    OURS: lambda pair: pair.ours("neck"),
    RAZOR: lambda pair: pair.razor("FpnTeacherDistill", "neck", by_call=False),
    OURS_HEAD: lambda pair: pair.ours("rpn.logits"),
    RAZOR_HEAD: lambda pair: pair.razor("SingleTeacherDistill", "rpn_head.rpn_cls", by_call=True),
}


def contest(
    student: str,
    teacher: str,
    shape: Sequence[int] = (800, 1333),
    batch: int = 2,
    steps: int = 10,
    device: str = "cpu",
    out: str | None = None,
) -> str:
    """Time a step (losses and backward pass) of each contestant in turns, and meter its memory in a process of its own.

    Both toolkits take the mean squared gap of the same maps: of the neck, for which a teacher's backbone and neck
    suffice, and of the RPN's scores, for which MMRazor runs the teacher's whole training forward.

    Args:
        student: Config of a two-stage detector with a pyramid, a path or `mmdet::name`.
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
    """
    with TemporaryDirectory() as folder:
        weights = Path(folder, "teacher.pth")
        pair = _Pair(student, teacher, str(weights))
        weights_of(teacher, weights)
        models = {name: make(pair).to(device) for name, make in CONTESTANTS.items()}
        images = made_up((shape[0], shape[1]), batch, device=device)
        calls = {name: partial(_step, name, model, *images) for name, model in models.items()}
        times = in_turns(calls, steps, device)
        sizes = {name: _size(model, Path(folder, "size.pth")) for name, model in models.items()}
        del models, calls
        args = (student, teacher, str(weights), shape, batch, device)
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            peaks = {name: pool.apply(_peak, (name, *args)) for name in CONTESTANTS}
    if out:
        told = dict(torch=torch.__version__, device=device, batch=batch, shape=list(shape), seconds=times)
        Path(out).write_text(json.dumps(told | dict(peak_bytes=peaks, checkpoint_bytes=sizes), indent=1))
    rows = []
    for name in CONTESTANTS:
        cost = ratio(times[name], times[STUDENT], times[FEATURES])
        rows.append([name, milliseconds(times[name]), f"{cost:.3f}", _mega(peaks[name]), _mega(sizes[name])])
    for ours, theirs in ((OURS, RAZOR), (OURS_HEAD, RAZOR_HEAD)):
        cost, memory = ratio(times[ours], times[theirs]), peaks[ours] / peaks[theirs]
        rows.append(
            [f"{ours}, over MMRazor's", f"x {cost:.3f}", "", f"x {memory:.2f}", f"x {sizes[ours] / sizes[theirs]:.2f}"]
        )
    return table(f"batch {batch}, {shape[1]}x{shape[0]}, medians of {steps} on {device}", HEAD, rows)


def _mega(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _step(name: str, model: Any, inputs: Any, samples: list[Any]) -> None:
    if name == FEATURES:
        with torch.no_grad():
            model.extract_feat(inputs)
        return
    go_back(model, model.loss(inputs, samples))


def _size(model: nn.Module, file: Path) -> int:
    torch.save(model.state_dict(), file)
    return file.stat().st_size


def _peak(name: str, student: str, teacher: str, weights: str, shape: Sequence[int], batch: int, device: str) -> int:
    """Bytes that a contestant takes at most, from before it is built to after its second step."""
    import det_distill.plugins  # noqa: F401 - in a process of its own

    pair = _Pair(student, teacher, weights)
    images = made_up((shape[0], shape[1]), batch, device=device)

    def run() -> None:
        model = CONTESTANTS[name](pair).to(device)
        for _ in range(2):
            _step(name, model, *images)

    return peak(run, device)
