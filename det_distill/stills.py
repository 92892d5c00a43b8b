"""Images of a config's data set as they are fed to a net, without the dice of augmentation."""

import copy
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from numpy.typing import NDArray

RESIZES = ("Resize", "FixScaleResize", "FixShapeResize", "ResizeShortestEdge")
STILL = (*RESIZES, "Pad", "FilterAnnotations")  # no dice in these


def picture(packed: dict[str, Any]) -> tuple[NDArray[np.uint8], DetDataSample]:
    """What the student would see, RGB, and its truth in the same pixels."""
    image, sample = packed["inputs"].numpy().transpose(1, 2, 0), packed["data_samples"]
    image = np.ascontiguousarray(np.broadcast_to(image[..., ::-1], (*image.shape[:2], 3)).clip(0, 255), dtype=np.uint8)
    sample.set_metainfo(dict(img_shape=image.shape[:2]))
    return image, sample


def as_batch(image: NDArray[np.uint8], sample: DetDataSample) -> dict[str, Any]:
    """What `picture` took apart, as a data loader hands it to a preprocessor; the sample is copied."""
    return dict(inputs=[torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())], data_samples=[sample.clone()])


def still_dataset(cfg: Config, split: str) -> Any:
    """The data set of a split, its pipeline reduced to loading, resizing and packing.

    A student of lower resolution has its own input size in its test pipeline: its training batches are the teacher's.

    Raises:
        ValueError: The config has none, it cannot be read, or it is empty.
    """
    key = f"{split}_dataloader"
    found = (cfg.get(key) or {}).get("dataset")
    if not found:
        has = [name for name in ("train", "val", "test") if (cfg.get(f"{name}_dataloader") or {}).get("dataset")]
        raise ValueError(f"{key}.dataset: none in the config, which has data for: {', '.join(has) or 'no split'}")
    plain = _unwrapped(found)
    # Unserialised, because MMEngine cannot serialise an empty list and would fail before it is named here.
    plain.update(pipeline=_still_pipeline(cfg, plain), serialize_data=False)
    try:
        dataset = DATASETS.build(plain)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{key}.dataset: cannot be read, {error}") from error
    if not len(dataset):
        raise ValueError(f"{key}.dataset: {plain.type} found no images (ann_file={plain.get('ann_file')!r})")
    return dataset


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width that the training pipeline resizes to.

    Raises:
        ValueError: It does not say.
    """
    dataset = (cfg.get("train_dataloader") or {}).get("dataset")
    for step in (_unwrapped(dataset).get("pipeline") if dataset else None) or []:
        scale = step.get("scale") or (step.get("scales") or [None])[0]
        if scale and "Resize" in str(step["type"]):
            width, height = (step["max_size"], scale) if isinstance(scale, int) else scale
            return height, width
    raise ValueError("train_dataloader.dataset.pipeline says no size of images; name one: --shape HEIGHT WIDTH")


def _unwrapped(dataset: ConfigDict) -> ConfigDict:
    """The data set inside RepeatDataset, MultiImageMixDataset and their like; the first of several joined."""
    while inner := dataset.get("dataset") or (dataset.get("datasets") or [None])[0]:
        dataset = inner
    return copy.deepcopy(dataset)


def _still_pipeline(cfg: Config, dataset: ConfigDict) -> list[dict[str, Any]]:
    """Load, resize, pack: annotations before the resize, so that the boxes move with the pixels."""
    own = dataset.get("pipeline") or []
    loaders = [step for step in own if _name(step).startswith("Load") and _name(step) != "LoadProposals"]
    if not any("Image" in _name(step) for step in loaders):
        loaders.insert(0, dict(type="LoadImageFromFile"))
    if not any("Annotations" in _name(step) for step in loaders):
        loaders.append(dict(type="LoadAnnotations", with_bbox=True))
    lower = (cfg.model.get("student") or {}).get("scale", 1) != 1
    sources = [] if lower else [own]
    for split in ("test", "val"):
        other = (cfg.get(f"{split}_dataloader") or {}).get("dataset")
        sources.append(_unwrapped(other).get("pipeline") or [] if other else [])
    still = next((steps for steps in sources if any(_name(step) in RESIZES for step in steps)), own)
    geometry = [copy.deepcopy(step) for step in still if _name(step) in STILL]
    for step in geometry:
        if _name(step) == "FilterAnnotations":
            step["keep_empty"] = False  # True would swap an image without boxes for a random one
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return [*loaders, *geometry, dict(type="PackDetInputs", meta_keys=keys)]


def _name(step: dict[str, Any]) -> str:
    return getattr(step["type"], "__name__", str(step["type"])).rsplit(".", 1)[-1]
