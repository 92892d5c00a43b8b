"""The student of a training run, on its own: weights without optimiser, teacher or terms, and its plain config."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, TASK_UTILS, TRANSFORMS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.nn import functional

from det_distill.building import build_detector
from det_distill.compat import checkpoints
from det_distill.compat.config_text import read_config_text
from det_distill.configs import load_config
from det_distill.export.onnx_graph import export_onnx
from det_distill.preprocess import padding
from det_distill.stills import input_size, still_dataset
from det_distill.student.model import student_model
from det_distill.weights import fill

PACKAGE = "det_distill."
CHECKED = 4  # images on which an ONNX graph is held against torch
REGISTRIES = (MODELS, TASK_UTILS, DATASETS, TRANSFORMS, METRICS, HOOKS)


def export_student(
    checkpoint: str, out: str, config: str | None = None, onnx: bool = False, shape: Sequence[int] | None = None
) -> list[Path]:
    """Write `out`, a checkpoint of the bare student, and its config beside it, `.py` for `.pth`.

    The config stands in the checkpoint too, so `DetInferencer(weights=out)` needs nothing else. Parts of this package
    that the student is made of (a R-FCN, say) stay in its `custom_imports`.

    Args:
        checkpoint: A training run's checkpoint, of a distilled student or of a plain detector.
        out: The file to write; it appears whole or not at all.
        config: The run's config, where the checkpoint does not hold it.
        onnx: Whether to write an ONNX graph too, `.onnx` for `.pth`, checked on images of the test split.
        shape: Height and width of the graph's input, before padding; by default as the training pipeline resizes.

    Returns:
        Paths of the checkpoint, of the config and, if asked for, of the graph.

    Raises:
        FileNotFoundError: No such checkpoint or config.
        ValueError: `out` is no `.pth`, the checkpoint holds no config, weights and config do not fit, or the graph
            cannot be made or says something else than torch.
    """
    path = Path(out)
    if path.suffix != ".pth":
        raise ValueError(f"OUT={out!r}; a file name ending in .pth is expected")
    register_all_modules()
    loaded = checkpoints.load(checkpoint)
    meta = (loaded.get("meta") if isinstance(loaded, Mapping) else None) or {}
    cfg = load_config(config, "config") if config else _config_of(meta, checkpoint)
    cfg = _plain(cfg)
    detector = build_detector(cfg.model)
    fill(detector, loaded, checkpoint, "the student's config")
    kept = {key: meta[key] for key in ("dataset_meta", "epoch", "iter") if key in meta}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, {"meta": dict(kept, cfg=cfg.pretty_text), "state_dict": detector.state_dict()})
    cfg.dump(path.with_suffix(".py"))
    written = [path, path.with_suffix(".py")]
    if onnx:
        height, width = shape or input_size(cfg)
        divisor = padding(detector.data_preprocessor)[0]
        canvas = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        written.append(path.with_suffix(".onnx"))
        print(export_onnx(detector.eval(), canvas, written[-1], _test_images(cfg, detector, canvas)))
    return written


def _test_images(cfg: Config, detector: Any, canvas: tuple[int, int]) -> list[torch.Tensor]:
    """The first test images that fit the canvas, as (1, 3, H, W), preprocessed and padded to it."""
    dataset = still_dataset(cfg, "test")
    found = []
    for index in range(len(dataset)):
        packed = dataset[index]
        ready = detector.data_preprocessor(pseudo_collate([packed]), False)["inputs"]
        height, width = ready.shape[2:]
        if height <= canvas[0] and width <= canvas[1]:
            found.append(functional.pad(ready, (0, canvas[1] - width, 0, canvas[0] - height)))
        if len(found) == CHECKED:
            return found
    if not found:
        raise ValueError(f"test_dataloader.dataset: no image fits into {canvas[0]}x{canvas[1]}; see --shape")
    return found


def _config_of(meta: dict[str, Any], checkpoint: str) -> Config:
    if not meta.get("cfg"):
        raise ValueError(f"checkpoint {checkpoint} does not say its config (meta.cfg); name it: --config CONFIG")
    try:
        cfg = Config(read_config_text(meta["cfg"]))
    except (ValueError, KeyError) as error:  # KeyError: a name that MMEngine keeps for itself
        raise ValueError(f"checkpoint {checkpoint}, meta.cfg: {error}; name the config instead: --config") from error
    if "model" not in cfg:
        raise ValueError(f"checkpoint {checkpoint}: its config describes no model; name it: --config CONFIG")
    return cfg


def _plain(cfg: Config) -> Config:
    """The same data and schedule around the student alone: no hook of this package, no import that is not needed."""
    plain = Config(dict(cfg, model=student_model(cfg.model)))
    plain.custom_hooks = [hook for hook in cfg.get("custom_hooks") or () if not _home(hook)]
    plain.default_hooks = {key: hook for key, hook in (cfg.get("default_hooks") or {}).items() if not _home(hook)}
    for key in ("work_dir", "load_from", "resume"):
        plain.pop(key, None)
    given = (plain.pop("custom_imports", None) or {}).get("imports") or []
    others = [name for name in ([given] if isinstance(given, str) else given) if not name.startswith(PACKAGE)]
    imports = [*others, *sorted(_homes(plain.to_dict()))]
    if imports:
        plain.custom_imports = dict(imports=imports)
    return plain


def _homes(value: Any) -> set[str]:
    """The modules of this package that parts of a config live in."""
    if isinstance(value, dict):
        below = [_homes(part) for part in value.values()]
        return set().union(*below, {_home(value)} - {""})
    return set().union(*map(_homes, value)) if isinstance(value, list | tuple) else set()


def _home(part: dict[str, Any]) -> str:
    """The module of this package in which the class that `type` names lives, or nothing."""
    name = part.get("type")
    found = (registry.get(name) for registry in REGISTRIES) if isinstance(name, str) and "." not in name else (name,)
    module = next((cls.__module__ for cls in found if isinstance(cls, type)), "")
    return module if module.startswith(PACKAGE) else ""


def _write(path: Path, content: dict[str, Any]) -> None:
    """Save under another name, and rename once it lies on the disk."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
