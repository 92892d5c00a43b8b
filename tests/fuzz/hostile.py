"""What the fuzz tests share: how many cases, what counts as an answer, and ways to spoil a sound input.

`FUZZ=60` makes sixty times the cases, at random; without it they are few and always the same.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("FUZZ", "1"))
SECONDS = 20  # of the processor's time, a case
WAIT = 300  # s of the clock, a case: the machine may do other things too
LONGEST = 3000  # characters of a message


def cases(quick: int) -> settings:
    """Settings for so many cases in the ordinary suite, and `FUZZ` times as many in `make fuzz`."""
    return settings(
        max_examples=quick * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,  # `answered` stops a case, which a deadline does not
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def answered(*needles: str, refused: bool = False) -> Iterator[None]:
    """The block ends in time, and well or with one of our own errors that names one of the needles.

    Subclasses such as UnicodeDecodeError are not ours: they name no file and no key.
    """

    def stop(*_: object) -> None:
        pytest.fail(f"no answer within {SECONDS} s, or {WAIT} s of waiting")

    said = None
    before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAIT)
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if type(error) not in (ValueError, FileNotFoundError):
            raise
        said = str(error)
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, one in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, one)
    assert said is not None or not refused
    if said is not None:
        assert any(needle in said for needle in needles), f"none of {needles} is named: {said}"
        assert len(said) < LONGEST


# ---------------------------------------------------------------- bytes

TOKENS = [
    *(b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[2J", b"\n", b"\r", b" ", b"\t"),
    *(
        b"<!DOCTYPE a>",
        b'<!DOCTYPE a [<!ENTITY b "c">]>',
        b"&b;",
        b"&#0;",
        b"&#x110000;",
        b"<a>",
        b"</a>",
        b"<![CDATA[",
    ),
    *(b'<?xml version="1.0" encoding="utf-7"?>', b'<?xml version="1.0" encoding="zip"?>', b"<a>" * 2000),
    *(
        b"../",
        b"/etc/passwd",
        b"[/]",
        b"{",
        b"[" * 5000,
        b'{"a":' * 2000,
        b"NaN",
        b"1e999",
        b"-1",
        b"9" * 400,
        b"9" * 5000,
    ),
    *(b"-" * 5000, b"(" * 300, b"dict(" * 300, b"'", b'"', b"#", b"\\", b"__import__('os')", b"type='os.system'"),
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with a few bytes changed, pieces cut out or doubled, tokens put in, and perhaps an end missing."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["set", "insert", "cut", "double", "truncate"]))
        stop = min(len(content), at + draw(st.integers(1, 40)))
        if kind == "set" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            content[at:at] = draw(st.sampled_from(TOKENS))
        elif kind == "cut":
            del content[at:stop]
        elif kind == "double":
            content[at:at] = content[at:stop]
        elif kind == "truncate" and draw(st.booleans()):
            del content[at:]
    return bytes(content)


# ---------------------------------------------------------------- trees of dicts and lists


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


VALUES = [
    *(None, True, False, 0, 1, -1, 3, 2**40, 2**63, 10**400, 0.5, -0.0, float("nan"), float("inf"), -float("inf")),
    *("", " ", "x", "-1", "1e3", "\0", "\ud800", "\x1b[2J", "[/]", "../../x", "/etc/passwd", "http://x/y", "x" * 400),
    *([], [None], [1, 2], [1, 2, 3, 4], ["a"], {}, {"a": 1}, {1: 2}, {"type": 1}, {"type": "Nothing"}, (), nested(50)),
]
JSON = [value for value in VALUES if not isinstance(value, tuple) and value != {1: 2}]


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every part of a tree but the whole."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from places(tree[key], (*path, key))


@st.composite
def altered(
    draw: st.DrawFn, tree: Any, values: list[Any], spared: tuple[str, ...] = ()
) -> tuple[Any, list[tuple[Any, ...]]]:
    """A copy with one or two parts dropped, renamed, doubled elsewhere or made something else; and their paths.

    Parts whose dotted path is `spared` stay as they are; what lies below them need not.
    """
    tree, changed = deepcopy(tree), []
    for _ in range(draw(st.integers(1, 2))):
        known = [path for path in places(tree) if ".".join(map(str, path)) not in spared]
        if not known:
            break
        *way, key = path = draw(st.sampled_from(known))
        room = tree
        for step in way:
            room = room[step]
        kind = draw(st.sampled_from(["drop", "set", "set", "set", "rename", "double"]))
        if kind == "drop":
            del room[key]
        elif kind == "set":
            room[key] = deepcopy(draw(st.sampled_from(values)))
        elif isinstance(room, list):
            room.append(deepcopy(room[key]))
        elif kind == "rename":
            room[f"{key}s" if draw(st.booleans()) else f"{key}"[:-1]] = room.pop(key)
        else:
            room[draw(st.sampled_from(["x", *map(str, room)]))] = deepcopy(room[key])
        changed.append(path)
    return tree, changed
