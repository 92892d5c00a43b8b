"""Layers that a student has of its teacher, fitted one after another to what the teacher's give.

He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017, arXiv:1707.06168),
section 3: once channels are chosen, the weights of a layer are those of least squares, from what the thinner net gives
it to what the whole net makes there, so that errors of the layers before are made up for.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from det_distill.inheritance.least_squares import LeastSquares
from det_distill.inheritance.places import Origin
from det_distill.inheritance.rows import Layer, Wanted, is_plain, matrix_of, rows_at, set_matrix, wanted_of
from det_distill.modes import evaluating
from det_distill.refusals import at_least, blamed, only_keys
from det_distill.scene import Scene
from det_distill.teachers.teacher import Teacher
from det_distill.views.base import View
from det_distill.views.taps import Recorder

KEYS = ("images", "rows", "ridge")
PROPOSALS = 100  # of the teacher, an image: what RoI heads are fitted on, beside the true boxes
AT_ONCE = 8  # layers of the teacher that are looked at in one pass: their maps lie in memory together


@dataclass(frozen=True)
class Reconstruction:
    """How the layers are fitted.

    Attributes:
        images: On how many training images, evenly spread over the split, as training would augment them.
        rows: How many cells or boxes a layer is fitted on at the most.
        ridge: How much its own weights count, as a share of the mean square of its inputs.
    """

    images: int = 96
    rows: int = 20000
    ridge: float = 0.01

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any]) -> "Reconstruction":
        """Build from `dict(images=..., rows=..., ridge=...)`.

        Raises:
            ValueError: It is no dict, a key is unknown, or a number too small.
        """
        only_keys(cfg, KEYS, "reconstruct")
        for key, least in (("images", 1), ("rows", 1), ("ridge", 0)):
            at_least(f"reconstruct.{key}", cfg.get(key, least), least)
        return cls(**cfg)


@dataclass(frozen=True)
class Look:
    """A batch that both nets look at.

    Attributes:
        inputs: (B, 3, H, W), preprocessed for the student.
        samples: MMDetection's data samples.
        rois: (N, 5) the boxes that RoI heads judge; None where nothing of a RoI head is fitted.
    """

    inputs: Tensor
    samples: Sequence[Any]
    rois: Tensor | None


def look_of(teacher: Teacher, inputs: Tensor, samples: Sequence[Any], rois: bool) -> Look:
    """A batch, and with `rois` its true boxes and those the teacher proposes."""
    if not rois:
        return Look(inputs, samples, None)
    batch = teacher.renormalise(inputs, [sample.img_shape for sample in samples])
    with torch.no_grad():
        _, proposed = teacher.view.best_boxes(batch, [sample.metainfo for sample in samples], ())
    true = Scene.from_samples(samples).boxes
    boxes = [torch.cat((own, one[:PROPOSALS])) for own, one in zip(true, proposed, strict=True)]
    return Look(inputs, samples, bbox2roi(boxes))


@torch.no_grad()
def reconstruct(
    how: Reconstruction, student: View, teacher: Teacher, origins: Mapping[str, Origin], looks: Sequence[Look]
) -> dict[str, tuple[float, float]]:
    """Fit the student's layers in the order they run in.

    Args:
        how: Numbers of images and rows, and the ridge.
        student: The student, its layers already those of `WeightSelection`.
        teacher: Its teacher.
        origins: By the dotted path of a layer, which of the teacher's layer's outputs its own shall be; layers that
            are no plain convolution or linear layer stay as they are.
        looks: The images.

    Returns:
        By path, in the order fitted: the share of the wanted outputs' variance that was unexplained, and is.

    Raises:
        ValueError: A layer gives other cells than its teacher's, for nets of other strides or resolutions.
    """
    modules = dict(student.detector.named_modules())
    layers = {path: modules[path] for path in origins if is_plain(modules[path])}
    done: dict[str, tuple[float, float]] = {}
    with evaluating(student.detector):
        for path, wanted in _wanted(how, teacher, _in_order(student, layers, looks[0]), origins, looks):
            layer = layers[path]
            squares = LeastSquares(matrix_of(layer))
            with blamed(f"reconstruct: '{path}'"):
                for look, calls in zip(looks, wanted, strict=True):
                    _add(squares, student, path, layer, look, calls)
            found = squares.solve(how.ridge)
            done[path] = squares.unexplained(squares.start), squares.unexplained(found)
            set_matrix(layer, found)
    return done


def _in_order(student: View, layers: Mapping[str, Layer], look: Look) -> dict[str, Layer]:
    """The layers by when they first run."""
    ran: dict[str, Layer] = {}
    with Recorder() as seen:
        for path, layer in layers.items():
            seen.watch(path, layer, lambda *_, path=path, layer=layer: ran.setdefault(path, layer))
        one_a_stage = {student.stage(path): path for path in layers}  # more would keep every layer's maps
        student.run(look.inputs, list(one_a_stage.values()), look.rois)
    return ran


def _wanted(
    how: Reconstruction,
    teacher: Teacher,
    layers: Mapping[str, Layer],
    origins: Mapping[str, Origin],
    looks: Sequence[Look],
) -> Iterator[tuple[str, list[list[Wanted]]]]:
    """Of each layer, in order, what it should give: of each look, call by call."""
    paths = list(layers)
    for begin in range(0, len(paths), AT_ONCE):
        some = paths[begin : begin + AT_ONCE]
        found: dict[str, list[list[Wanted]]] = {path: [] for path in some}
        for look in looks:
            shown = teacher.watch(look.inputs, look.samples, [origins[path].path for path in some], look.rois)
            for path in some:
                calls = shown[origins[path].path]
                most = max(1, how.rows // (len(looks) * len(calls)))
                found[path].append([wanted_of(layers[path], one, origins[path].outputs, most) for one in calls])
        yield from found.items()


class _Enough(Exception):
    """A layer has run as often as anybody wants to know: the rest of the net need not."""


def _add(squares: LeastSquares, student: View, path: str, layer: Layer, look: Look, wanted: Sequence[Wanted]) -> None:
    """Count in what a layer is given in one look."""
    left = list(wanted)

    def given(args: tuple[Any, ...], _: Any) -> None:
        now = left.pop(0)
        squares.add(rows_at(layer, args[0], now), now.rows.double())
        if not left:
            raise _Enough

    with Recorder() as seen, suppress(_Enough):
        seen.watch(path, layer, given)
        student.run(look.inputs, [path], look.rois)
    if left:
        raise ValueError(f"it runs {len(wanted) - len(left)} times on the student, {len(wanted)} times on the teacher")
