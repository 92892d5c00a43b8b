"""Find the config a user names: a path or `mmdet::name`, with one clear error when there is none."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hub import get_config

from det_distill.compat.checkpoints import is_file, nearest_file
from det_distill.refusals import blamed, reason


def read_config(name: str, key: str) -> Config:
    """Read a config file. It is Python, and runs: it is the user's own, unlike what a checkpoint holds.

    Args:
        name: Path.
        key: The config key that names it, for messages.

    Raises:
        FileNotFoundError: No such config; names the nearest.
        ValueError: It cannot be read, whatever went wrong in it.
    """
    if not is_file(name):
        raise FileNotFoundError(f"{key}={name!r:.200} not found; {nearest_file(Path(name))}")
    try:
        _demand_end(name)
        return Config.fromfile(name)
    except Exception as error:  # a config may raise anything
        raise ValueError(f"{key}={name!r} cannot be read: {reason(error)}{_way_out(error)}") from error


def _way_out(error: Exception) -> str:
    """What MMEngine does not say of a detector with hooks of its own, such as RTMDet."""
    if not all(words in str(error) for words in ("Duplicate key is not allowed among bases", "'custom_hooks'")):
        return ""
    return (
        "; take the detector's config alone as _base_, and add to what it sets: "
        "custom_hooks = [*_base_.custom_hooks, dict(type='AdapterStateHook'), ...]"
    )


def _demand_end(path: str, above: tuple[str, ...] = ()) -> None:
    """Refuse `_base_`s that lead in a circle: MMEngine follows them, for half a minute, until the stack is full."""
    if os.path.realpath(path) in above:
        raise ValueError(f"its _base_ leads in a circle, by {path}")
    for base in Config._get_base_files(path):
        if "::" not in base:  # stock ones end
            _demand_end(os.path.join(os.path.dirname(path), base), (*above, os.path.realpath(path)))


def load_config(name: str, key: str) -> Config:
    """Read a config file, or a stock one of MMDetection by `mmdet::folder/name.py`.

    Args:
        name: Path, or scope and name.
        key: The config key that names it, for messages.

    Raises:
        FileNotFoundError: No such config; names the nearest.
        ValueError: It cannot be read, or describes no model.
    """
    if not isinstance(name, str):
        raise ValueError(f"{key}={name!r:.80}; a path, or `mmdet::folder/name.py`, is expected")
    if "::" in name:
        package = name.partition("::")[0]
        if not package.isidentifier() or find_spec(package) is None:  # MMEngine would install it, unasked
            raise FileNotFoundError(f"{key}={name!r} is no stock config; no package '{package}' is installed")
        try:
            cfg = get_config(name)
        except (AssertionError, OSError, ValueError) as error:
            raise FileNotFoundError(f"{key}={name!r} is no stock config; {_nearest_stock(name)}") from error
    else:
        cfg = read_config(name, key)
    if not isinstance(cfg.get("model"), dict):
        raise ValueError(f"{key}={name!r} describes no model; a config of a detector is expected")
    return cfg


def opened(name: str, options: Mapping[str, Any] | None) -> Config:
    """A config as a tool without a Runner wants it: MMDetection's parts registered, `--cfg-options` merged.

    Raises:
        FileNotFoundError: No such config; names the nearest.
        ValueError: It describes no model.
    """
    register_all_modules()
    cfg = load_config(name, "config")
    override(cfg, options)
    return cfg


def opened_distiller(name: str, options: Mapping[str, Any] | None) -> Config:
    """As `opened`, of a distillation config.

    Raises:
        FileNotFoundError: No such config; names the nearest.
        ValueError: Its model is no Distiller.
    """
    cfg = opened(name, options)
    demand_distiller(cfg, name)
    return cfg


def demand_distiller(cfg: Config, name: str) -> None:
    """Refuse a config of another model.

    Raises:
        ValueError: Its model is no Distiller.
    """
    if cfg.model.get("type") != "Distiller":
        raise ValueError(f"{name}: model.type='{cfg.model.get('type')}'; a Distiller is expected")


def override(cfg: Config, options: Mapping[str, Any] | None) -> None:
    """Merge `--cfg-options`; a new `data_root` moves every path of the config that lies below the old one.

    Raises:
        ValueError: An option fits nothing in the config; names it.
    """
    options = dict(options or {})
    old, new = cfg.get("data_root"), options.get("data_root")
    if old and new:
        for key in list(cfg):
            cfg[key] = _moved(cfg[key], str(old).rstrip("/"), str(new).rstrip("/"))
    for key, value in options.items():
        with blamed(f"--cfg-options {key}"):
            cfg.merge_from_dict({key: value})


def _moved(value: Any, old: str, new: str) -> Any:
    """`value` with `new` for `old` at the head of every path in it."""
    if isinstance(value, dict):
        for key in value:
            value[key] = _moved(value[key], old, new)
    elif isinstance(value, list | tuple):
        return type(value)(_moved(part, old, new) for part in value)
    elif isinstance(value, str) and (value.rstrip("/") == old or value.startswith(old + "/")):
        return new + value[len(old) :]
    return value


def _nearest_stock(name: str) -> str:
    package, _, path = name.partition("::")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return f"'{package}' is no package"
    return nearest_file(Path(spec.submodule_search_locations[0]) / ".mim/configs" / path)
