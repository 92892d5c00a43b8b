"""Find the config a user names: a path or `mmdet::name`, with one clear error when there is none."""

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope, Registry

from det_distill.compat.checkpoints import nearest_file


def load_config(name: str, key: str) -> Config:
    """Read a config file, or a stock one of MMDetection by `mmdet::folder/name.py`.

    Args:
        name: Path, or scope and name.
        key: The config key that names it, for messages.

    Raises:
        FileNotFoundError: No such config; names the nearest.
        ValueError: It describes no model.
    """
    if "::" in name:
        package = name.partition("::")[0]
        if not package.isidentifier() or find_spec(package) is None:  # MMEngine would install it, unasked
            raise FileNotFoundError(f"{key}={name!r} is no stock config; no package '{package}' is installed")
        try:
            cfg = get_config(name)
        except (AssertionError, OSError, ValueError) as error:
            raise FileNotFoundError(f"{key}={name!r} is no stock config; {_nearest_stock(name)}") from error
    elif Path(name).is_file():
        cfg = Config.fromfile(name)
    else:
        raise FileNotFoundError(f"{key}={name!r} not found; {nearest_file(Path(name))}")
    if "model" not in cfg:
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


def override(cfg: Config, options: Mapping[str, Any] | None) -> None:
    """Merge `--cfg-options`; a new `data_root` moves every path of the config that lies below the old one."""
    options = dict(options or {})
    old, new = cfg.get("data_root"), options.get("data_root")
    if old and new:
        for key in list(cfg):
            cfg[key] = _moved(cfg[key], str(old).rstrip("/"), str(new).rstrip("/"))
    cfg.merge_from_dict(options)


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


def build_detector(model: Mapping[str, Any]) -> Any:
    """Build a detector from its model dict; where no other scope is set, as outside a Runner, in MMDetection's."""
    scope = DefaultScope.get_current_instance()
    mine = scope is None or scope.scope_name == "mmengine"
    with DefaultScope.overwrite_default_scope("mmdet" if mine else None):
        return MODELS.build(dict(model))


def student_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The plain student's model dict, out of a Distiller's or of any other model's.

    A student is written as a model dict, as `dict(model=...)` or as `dict(config="path or mmdet::name")`, each with
    an optional `scale` beside it, which is no part of the model.

    Raises:
        FileNotFoundError: The student's config is not there.
        ValueError: A Distiller's dict without a student, or an unknown key beside `config` or `model`.
    """
    if model.get("type") == "Distiller":
        student = model.get("student")
        if not student:
            raise ValueError(f"model.student must be a detector's model dict or dict(config=...), found {student!r}")
        model = {key: value for key, value in student.items() if key != "scale"}
    for key in ("config", "model"):
        if key in model and "type" not in model:
            only_keys(model, (key,), "student")
            model = model[key] if key == "model" else load_config(model[key], "student.config").model
    return dict(model)


def only_keys(found: Any, known: tuple[str, ...], key: str) -> None:
    """Refuse keys of a config dict that nothing reads.

    Raises:
        ValueError: Names the unknown key and the nearest known one.
    """
    for name in found:
        if name not in known:
            raise ValueError(f"{key}.{name} is unknown{suggestion(str(name), known)}; known: {', '.join(known)}")


def build(registry: Registry, cfg: Mapping[str, Any]) -> Any:
    """Build from a registry, after a look at the names in `cfg`.

    Raises:
        ValueError: The type or an argument is unknown; names the nearest.
    """
    name = cfg.get("type")
    if not isinstance(name, str):
        raise ValueError(f"type={name!r}; the name of a class is expected")
    cls = registry.get(name)
    if cls is None:
        raise ValueError(f"type='{name}' is not registered{suggestion(name, registry.module_dict)}")
    known = _arguments(cls)
    if known is not None:
        only_keys((key for key in cfg if key != "type"), known, name)
    return registry.build(dict(cfg))


def _arguments(cls: Any) -> tuple[str, ...] | None:
    """What a class may be built with; where it hands `**others` on, what its bases may too. None if it takes anything.

    Example:
        >>> class Base:
        ...     def __init__(self, weight): ...
        >>> class Child(Base):
        ...     def __init__(self, tap, **others): ...
        >>> _arguments(Child)
        ('tap', 'weight')
    """
    found: list[str] = []
    for one in inspect.getmro(cls) if inspect.isclass(cls) else (cls,):
        if inspect.isclass(one) and "__init__" not in vars(one):
            continue
        parameters = inspect.signature(one).parameters.values()
        found += [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return tuple(found)
    return None


@contextmanager
def blamed(key: str) -> Iterator[None]:
    """Whatever the block refuses, as one ValueError that names the config key."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{key}: {error}") from error


def choice(key: str, found: str, choices: Iterable[str]) -> str:
    """`found`, once it is known to be one of the choices.

    Raises:
        ValueError: It is none of them; names the key and the nearest.
    """
    known = tuple(choices)
    if found not in known:
        raise ValueError(f"{key}={found!r} is none of {', '.join(map(repr, known))}{suggestion(str(found), known)}")
    return found


def at_least(key: str, found: float, least: float) -> float:
    """`found`, once it is known to be no smaller than `least`.

    Raises:
        ValueError: It is smaller, or not a number.
    """
    if not found >= least:
        raise ValueError(f"{key}={found}; a number of at least {least} is expected")
    return found


def suggestion(found: str, known: Any) -> str:
    """`", did you mean 'x'?"`, or nothing when no name is near."""
    close = difflib.get_close_matches(found, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
