"""Nets with weights that were drawn, not trained: a step costs the same, and nothing has to be downloaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from det_distill.building import build_detector
from det_distill.configs import load_config, opened_distiller
from det_distill.teachers.faculty import several


def drawn(config: str, folder: str, options: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Write drawn weights for the teachers of a Distiller's config, and give the `--cfg-options` that name the files.

    Raises:
        FileNotFoundError: No such config.
        ValueError: The config is no Distiller's, or a teacher cannot be built.
    """
    teacher = opened_distiller(config, options).model.teacher
    ways = {"model.teacher": teacher}
    if several(teacher):
        ways = {f"model.teacher.{name}": one for name, one in teacher.items()}
    return {f"{way}.checkpoint": weights_of(one["config"], Path(folder, f"{way}.pth")) for way, one in ways.items()}


def weights_of(config: str, file: Path) -> str:
    """Write drawn weights for the detector of a config to a file, and give its name."""
    torch.manual_seed(0)
    torch.save(build_detector(without_files(load_config(config, "teacher.config").model)).state_dict(), file)
    return str(file)


def without_files(model: Any) -> Any:
    """The config of a model without any `init_cfg`, by which it would begin with what a file holds."""
    if isinstance(model, dict):  # a ConfigDict stays one: detectors read theirs by attribute
        return type(model)({key: without_files(value) for key, value in model.items() if key != "init_cfg"})
    if isinstance(model, list | tuple):
        return type(model)(without_files(value) for value in model)
    return model
