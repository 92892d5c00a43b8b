"""Where a trained detector looks: maps of one image, for the page that compares masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from numpy.typing import NDArray
from torch import Tensor

from det_distill.crops import FINEST
from det_distill.masks import GtBoxMask
from det_distill.pictures.draw import Picture
from det_distill.quantise import quantise
from det_distill.scene import Level, Scene, whole_image
from det_distill.stills import as_batch
from det_distill.teachers.teacher import Teacher

PROPOSALS = 128  # as ProposalMimic's default
TITLES = ("teacher: attention", "teacher: quantised features", f"teacher: {PROPOSALS} best proposals")
Maps = list[NDArray[Any] | None]


def teacher_for(config: str, model: ConfigDict, checkpoint: str | None) -> tuple[Teacher | None, str]:
    """Whose maps to show: a Distiller's teacher, or a plain detector of which a checkpoint is given.

    It is built from its config as it stands: --cfg-options have no say in it.

    Args:
        config: The config's path or name.
        model: Its model.
        checkpoint: The file; for a Distiller, in place of the config's.

    Returns:
        The teacher and "", or None and why there is none.

    Raises:
        FileNotFoundError: The checkpoint given is not there.
        ValueError: It does not fit.
    """
    if model.type != "Distiller":
        return (Teacher(config, checkpoint), "") if checkpoint else (None, "no checkpoint was given")
    if (model.student.get("scale") or 1) != 1:
        return None, "the teacher sees another resolution than the student's shown here"
    wanted = model.teacher
    if "config" not in wanted:  # several: the first is shown
        wanted = next(iter(wanted.values()), wanted)
    wanted = wanted if checkpoint is None else {**wanted, "checkpoint": checkpoint}
    path = wanted.get("checkpoint")
    if checkpoint is None and isinstance(path, str) and not Path(path).is_file():
        return None, f"there is no teacher.checkpoint {path}"
    return Teacher.from_config(wanted), ""


@torch.no_grad()
def maps_of(teacher: Teacher, image: Picture, levels: Sequence[Level]) -> dict[str, Maps]:
    """What a teacher shows of one image, by title.

    Args:
        teacher: A trained detector; it preprocesses the image its own way.
        image: (H, W, 3) uint8 RGB, not padded.
        levels: The student's; the teacher's maps are found by stride.

    A single-stage detector's detections stand for proposals.

    Returns:
        Per title and level (h, w): uint8, 0 to 255 for 0 to 1, or bool for the proposals; zero on the padding; None
        where the teacher has no map of the stride. Attention is the mean over channels of the squared features, from
        the level's least to its largest; the quantised map is the share of channels that do not round to 0.
    """
    detector, view = teacher.detector, teacher.view
    shape = image.shape[:2]
    data = detector.data_preprocessor(as_batch(image, whole_image(shape)), False)
    inputs, [sample] = data["inputs"], data["data_samples"]
    tap = "neck" if detector.with_neck else "backbone"
    strides = [spec.stride for spec in view.anatomy([tap]).maps(tap)]
    seen, (boxes,) = view.best_boxes(inputs, [sample.metainfo], [tap])
    shown: dict[float, Tensor] = dict(zip(strides, seen[tap], strict=True))
    scene = Scene([boxes[:PROPOSALS]], [torch.zeros(0, 4)], [shape])

    kept = [level for level in levels if level.stride[0] in shown]
    # Each box on the one level that ProposalMimic crops it from.
    proposed = iter(GtBoxMask("size", FINEST * min((level.stride[0] for level in kept), default=1))(scene, kept))
    found_on: list[tuple[NDArray[Any] | None, ...]] = []
    for level in levels:
        if level.stride[0] not in shown:
            found_on.append((None, None, None))
            continue
        columns, rows = level.valid(scene)[0].tolist()
        features = shown[level.stride[0]][0, :, :rows, :columns]
        rounded = quantise(features, signed=detector.with_neck)  # a pyramid's features have both signs
        heat, share = _spread(features.square().mean(dim=0)), (rounded != 0).float().mean(dim=0)
        found_on.append((_bytes(heat, level), _bytes(share, level), next(proposed)[0].numpy()))
    return {title: list(maps) for title, maps in zip(TITLES, zip(*found_on, strict=True), strict=True)}


def _spread(values: Tensor) -> Tensor:
    """From 0 at the least to 1 at the largest."""
    low, high = values.aminmax()
    return (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)


def _bytes(values: Tensor, level: Level) -> NDArray[np.uint8]:
    """Rounded to 8 bits, zero beyond what is known."""
    out = np.zeros(level.size, dtype=np.uint8)
    out[: values.shape[0], : values.shape[1]] = (255 * values).round().byte().numpy()
    return out
