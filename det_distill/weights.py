"""Every weight of a checkpoint into a model, or an error that says exactly what does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from det_distill.compat import mmengine_files

SHOWN = 5  # names of wrong weights listed in an error


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def load_strictly(model: nn.Module, path: str) -> None:
    """Load every weight of a teacher from a checkpoint, or say exactly what does not fit.

    Args:
        model: The teacher.
        path: A file, or any other name MMEngine knows, such as `https://...`.

    Raises:
        FileNotFoundError: No such file.
        ConnectionError: It cannot be fetched.
        ValueError: Broken file, no weights in it, or weights that are missing, left over or of another shape.
    """
    fill(model, mmengine_files.read(path), path, "the teacher's config")


def fill(model: nn.Module, loaded: Any, path: str, config: str) -> None:
    """Give `model` every weight of a checkpoint that was read, or say exactly what does not fit.

    Args:
        model: What `config` describes.
        loaded: The content of the file.
        path: The file, for messages.
        config: Whose config it is, for messages.

    Raises:
        ValueError: No weights in it, or weights that are missing, left over, of another shape, NaN or no numbers.
    """
    found = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    entries = found.items() if isinstance(found, Mapping) else ()
    found = {str(name).removeprefix("module."): value for name, value in entries if isinstance(value, Tensor)}
    if not found:
        raise ValueError(f"checkpoint {path} holds no weights (no 'state_dict' of tensors)")
    own = model.state_dict()
    # BN's step counter is absent from checkpoints of before torch 0.4.1 and has no say in eval mode.
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    extra = [name for name in found if name not in own and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in found and found[name].shape != value.shape
    ]
    broken = [name for name, value in found.items() if name in own and not _whole(value)]
    faults = (
        f"{len(names)} {what}: {_listed(names)}"
        for names, what in (
            (missing, "weights missing"),
            (extra, "weights left over"),
            (shapes, "of another shape"),
            (broken, "NaN or no plain numbers"),
        )
        if names
    )
    report = "; ".join(faults)
    if report:
        raise ValueError(f"checkpoint {path} does not fit {config}; {report}")
    model.load_state_dict(found, strict=False)


def _whole(value: Tensor) -> bool:
    """Plain numbers that lie in memory, none of them NaN: no meta, sparse, quantised or complex tensor, no text."""
    if value.device.type != "cpu" or value.layout != torch.strided or value.is_quantized or value.is_complex():
        return False
    return not value.is_floating_point() or not bool(value.isnan().any())
