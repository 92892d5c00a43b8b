"""A config's text out of a checkpoint, read as data.

Why: MMEngine keeps the dumped config of a run in its checkpoint as Python text, and reads it back by running it. A
checkpoint that somebody else made would then run what it likes.
"""

import ast
from math import inf, nan
from typing import Any

NUMBERS = {"inf": inf, "nan": nan}


def read_config_text(text: str) -> dict[str, Any]:
    """The values of a dumped config: assignments of literals, lists, tuples and `dict(...)`, and nothing that runs.

    Raises:
        ValueError: It is no such text; names the line.

    Example:
        >>> read_config_text("model = dict(type='RPN', neck=None)\\nscale = (320, -240)")
        {'model': {'type': 'RPN', 'neck': None}, 'scale': (320, -240)}
    """
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} of the config is no Python: {error.msg}") from error
    found = {}
    for line in body:
        if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name) or len(line.targets) > 1:
            raise ValueError(f"line {line.lineno} of the config is no plain assignment: {ast.unparse(line)[:80]}")
        found[line.targets[0].id] = _value(line.value)
    return found


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
        raise ValueError(f"line {node.lineno} of the config is no plain value: {ast.unparse(node)[:80]}") from error
