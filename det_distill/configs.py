"""Find the config a user names: a path or `mmdet::name`, with one clear error when there is none."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config

from det_distill.compat.checkpoints import nearest_file


def load_config(name: str, key: str) -> Config:
    """Read a config file, or a stock one of MMDetection by `mmdet::folder/name.py`.

    Args:
        name: Path, or scope and name.
        key: The config key that names it, for messages.

    Raises:
        FileNotFoundError: No such config; names the nearest.
    """
    if "::" in name:
        try:
            return get_config(name)
        except (FileNotFoundError, AssertionError, OSError) as error:
            raise FileNotFoundError(f"{key}={name!r} is no stock config: {error}") from error
    if not Path(name).is_file():
        raise FileNotFoundError(f"{key}={name!r} not found; {nearest_file(Path(name))}")
    return Config.fromfile(name)


def student_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The plain student's model dict, out of a Distiller's or of any other model's.

    A student is written as a model dict, or as `dict(config="path or mmdet::name")`.
    """
    if model.get("type") == "Distiller":
        model = model["student"]
    if "config" in model and "type" not in model:
        only_keys(model, ("config",), "student")
        model = load_config(model["config"], "student.config").model
    return dict(model)


def only_keys(found: Any, known: tuple[str, ...], key: str) -> None:
    """Refuse keys of a config dict that nothing reads.

    Raises:
        ValueError: Names the unknown key and the nearest known one.
    """
    for name in found:
        if name not in known:
            raise ValueError(f"{key}.{name} is unknown{suggestion(str(name), known)}; known: {', '.join(known)}")


def suggestion(found: str, known: Any) -> str:
    """`", did you mean 'x'?"`, or nothing when no name is near."""
    close = difflib.get_close_matches(found, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
