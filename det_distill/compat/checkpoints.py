"""Let torch's safe loader read MMEngine's own checkpoints; `weights_only` is never turned off.

Why: since torch 2.6 `torch.load` refuses every class it does not know, and MMEngine's checkpoints hold
its `HistoryBuffer` and numpy numbers. Allowing exactly those makes testing and resuming work again
without giving a checkpoint the right to run code; `plain_numpy` says why numpy's own rebuilders stay out.
"""

import difflib
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer

from det_distill.compat.plain_numpy import STAND_INS

# What unpickling a damaged or foreign file was seen to raise, over tens of thousands of random corruptions.
BROKEN = (
    *(RuntimeError, EOFError, pickle.UnpicklingError, ValueError, LookupError, AttributeError, TypeError),
    *(struct.error, AssertionError, ArithmeticError, SystemError, MemoryError, OSError, zipfile.BadZipFile),
)

LINE = 500  # characters read of each line of an error, which repeats names out of the file


def _statistic(owner: Any, name: str) -> Any:
    """Stands for `getattr` in pickles: a history buffer names its own four methods with it, and no more is given."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError("Unsupported GLOBAL builtins.getattr")
    return getattr(owner, name)


def _name(entry: Any) -> str:
    """The name under which pickles ask for an entry of torch's safe list."""
    return entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"


def allow_mmengine_types() -> None:
    """Add the types MMEngine itself writes to torch's safe list. Idempotent.

    Whoever allowed numpy's own rebuilders before has them replaced by those of `plain_numpy`: the two do not mix.
    """
    others = [entry for entry in torch.serialization.get_safe_globals() if _name(entry) not in STAND_INS]
    torch.serialization.clear_safe_globals()
    stand_ins = [(stand_in, name) for name, stand_in in STAND_INS.items()] + [(_statistic, "builtins.getattr")]
    torch.serialization.add_safe_globals([*others, HistoryBuffer, *stand_ins])


def is_file(path: str | Path) -> bool:
    """Whether a plain file is there; a name that no file can have is simply not there."""
    try:
        return Path(path).is_file()
    except OSError:  # too long, a loop of links
        return False


def nearest_file(path: Path) -> str:
    """A hint naming the closest existing sibling of a missing file, or why there is none."""
    folder = path.parent
    try:
        there = folder.is_dir()
    except OSError as error:
        return str(error.strerror)
    if not there:
        return f"the folder {folder} does not exist"
    close = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1, cutoff=0.4)
    return f"did you mean {folder / close[0]}?" if close else f"{folder} holds nothing of a similar name"


def _reason(error: BaseException) -> str:
    """The line of an error that says what is wrong; torch wraps it in advice to load without safety."""
    wrapping = r".*(WeightsUnpickler error:|Weights only load failed\.)"
    lines = [re.sub(wrapping, "", line[:LINE]).strip() for line in str(error).splitlines()]
    told = [
        line
        for line in lines
        if line and not re.search("weights_only|^This file can still be loaded|^Check the documentation", line)
    ]
    return told[0] if told else type(error).__name__


def _demand_no_bomb(path: Path) -> None:
    """torch stores its zip members as they are, so together they are no larger than the file; a bomb's are."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            told = sum(member.file_size for member in file.infolist())
        if told > path.stat().st_size:
            raise ValueError(f"its members would unpack to {told} bytes")


def load(path: str | Path) -> Any:
    """Read a checkpoint file onto the CPU, with the safe loader.

    Raises:
        FileNotFoundError: No such file; names the nearest one.
        ValueError: The file is truncated or no checkpoint, or holds a class that is not allowed.
    """
    path = Path(path)
    if not is_file(path):
        raise FileNotFoundError(f"checkpoint {path} not found; {nearest_file(path)}")
    allow_mmengine_types()
    try:
        _demand_no_bomb(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        reason = _reason(error)
        foreign = re.search(r"[Uu]nsupported (?:GLOBAL|global: GLOBAL|class) (\S+)|, but got (<class \S+>)", reason)
        if foreign:
            raise ValueError(
                f"checkpoint {path} holds {foreign[1] or foreign[2]}, which could run code when loaded; only tensors, "
                "plain Python values and MMEngine's own log types are read. Save its state_dict() instead."
            ) from error
        raise ValueError(
            f"checkpoint {path} ({path.stat().st_size} bytes) is truncated or no torch checkpoint: {reason}"
        ) from error
