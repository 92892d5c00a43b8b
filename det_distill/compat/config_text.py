"""A config's text out of a checkpoint, read as data.

Why: MMEngine keeps the dumped config of a run in its checkpoint as Python text, and reads it back by running it. A
checkpoint that somebody else made would then run what it likes.

Reading is not all: MMEngine builds `type="os.system"` by importing and calling it, and loads a pickle or YAML file by
running what is in it. So values that name either are refused too.
"""

import ast
from math import inf, nan
from typing import Any

from mmengine.utils import get_object_from_string

NUMBERS = {"inf": inf, "nan": nan}
HOMES = ("det_distill", "mmcv", "mmdet", "mmengine", "torch")  # whose classes a config from a checkpoint may name
RUNNING = (".pkl", ".pickle", ".yaml", ".yml")  # files that MMEngine's loader lets run code


def read_config_text(text: str) -> dict[str, Any]:
    """The values of a dumped config: assignments of literals, lists, tuples and `dict(...)`, and nothing that runs.

    Raises:
        ValueError: It is no such text, or it names by a dotted `type` what is no class of MMDetection's, or a file
            that would run code when loaded; names the line.

    Example:
        >>> read_config_text("model = dict(type='RPN', neck=None)\\nscale = (320, -240)")
        {'model': {'type': 'RPN', 'neck': None}, 'scale': (320, -240)}
    """
    if not isinstance(text, str):
        raise ValueError(f"the config is no text, but a {type(text).__name__}")
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} of the config is no Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nested too deeply
        raise ValueError(f"the config is no Python: {str(error) or type(error).__name__}") from error
    found = {}
    for line in body:
        if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name) or len(line.targets) > 1:
            raise ValueError(f"line {line.lineno} of the config is no plain assignment: {_told(line)}")
        try:
            found[line.targets[0].id] = value = _value(line.value)
            _harmless(value)
        except (TypeError, RecursionError, MemoryError) as error:  # a list as a key; nested too deeply
            raise ValueError(f"line {line.lineno} of the config is no plain value: {error}") from error
        except Foreign as error:
            raise ValueError(f"line {line.lineno} of the config {error}") from error
    return found


class Foreign(Exception):
    """A value that could run code."""


def _harmless(value: Any) -> None:
    if isinstance(value, dict):
        name = value.get("type")
        if isinstance(name, str) and "." in name and not _at_home(name):
            raise Foreign(f"names by type={name[:80]!r} what could run code")
    elif isinstance(value, str) and value.lower().endswith(RUNNING):
        raise Foreign(f"names {value[-80:]!r}, which could run code when loaded")
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    for part in parts if isinstance(parts, list | tuple | set) else ():
        _harmless(part)


def _at_home(name: str) -> bool:
    """Whether a dotted name is `scope.Name`, or a class at its own address; not what a module merely imports."""
    if name.partition(".")[0] not in HOMES:
        return False
    found = get_object_from_string(name)  # by which MMEngine's registries look; None leaves nothing to call
    return found is None or (isinstance(found, type) and f"{found.__module__}.{found.__qualname__}" == name)


def _told(node: ast.AST) -> str:
    return ast.unparse(node)[:80]


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(part) for part in node.elts)
    if isinstance(node, ast.Dict):
        pairs = [(key, part) for key, part in zip(node.keys, node.values, strict=True) if key]
        if len(pairs) == len(node.keys):
            return {_value(key): _value(part) for key, part in pairs}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
        if not node.keywords and len(node.args) == 1 and isinstance(node.args[0], ast.Dict):
            return _value(node.args[0])  # how MMEngine writes keys that are no names
        named = {word.arg: word.value for word in node.keywords if word.arg}
        if len(named) == len(node.keywords) and not node.args:
            return {key: _value(part) for key, part in named.items()}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Name):
        return -_value(node.operand)
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"line {node.lineno} of the config is no plain value: {_told(node)}") from error
