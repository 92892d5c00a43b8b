"""Parts from their configs, by MMDetection's registries; what cannot be built is named by its place in the config."""

import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from traceback import walk_tb
from typing import Any

from mmdet.registry import MODELS
from mmengine.registry import DefaultScope, Registry, build_from_cfg

from det_distill.refusals import REFUSALS, only_keys, reason, suggestion


def build_detector(model: Mapping[str, Any]) -> Any:
    """Build a detector from its model dict; where no other scope is set, as outside a Runner, in MMDetection's.

    Raises:
        ValueError: MMDetection cannot build it; names the part that refused, and what it said.
    """
    scope = DefaultScope.get_current_instance()
    mine = scope is None or scope.scope_name == "mmengine"
    with DefaultScope.overwrite_default_scope("mmdet" if mine else None):
        try:
            return MODELS.build(deepcopy(dict(model)))  # DETR and its kin write into theirs, and it is read again
        except REFUSALS as error:
            raise ValueError(f"{_part(model, error)}: {reason(error)}") from error


def _part(model: Mapping[str, Any], error: BaseException) -> str:
    """Where in a model dict the innermost part stands that could not be built: MMDetection's errors do not say."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code is build_from_cfg.__code__]
    parts = [part for part in (frame.f_locals["cfg"] for frame in frames) if isinstance(part, Mapping)]
    kind = parts[-1].get("type") if parts else None
    if kind == model.get("type"):
        return f"model, type={kind!r:.80}"
    ways = list(_ways(model, kind, "model"))
    return f"{' or '.join(ways[:3]) or 'model'}, type={kind!r:.80}"


def _ways(value: Any, kind: Any, way: str) -> Iterator[str]:
    """The dotted ways to the dicts of one type."""
    if isinstance(value, Mapping):
        if value.get("type") == kind:
            yield way
        value = value.items()
    elif isinstance(value, list | tuple):
        value = enumerate(value)
    else:
        return
    for key, part in value:
        yield from _ways(part, kind, f"{way}.{key}")


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
        only_keys({key: cfg[key] for key in cfg if key != "type"}, known, name)
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
