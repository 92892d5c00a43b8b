"""The splits of a data set, from its name or from a config, for `check`.

MMDetection builds the data sets, so that folders are joined and classes named as in training, but loads nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, WIDERFaceDataset, XMLDataset
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope

from det_distill.building import build
from det_distill.compat.checkpoints import nearest_file
from det_distill.configs import read_config
from det_distill.datasets import digits
from det_distill.datasets.kitti import KittiDataset
from det_distill.datasets.kitti_labels import TYPES
from det_distill.datasets.records import Record, from_coco, from_kitti, from_xml, listed
from det_distill.datasets.voc_folder import VOCFolderDataset
from det_distill.refusals import blamed


@dataclass(frozen=True)
class Split:
    """Records, and the classes their boxes may have."""

    classes: tuple[str, ...]
    records: Iterable[Record]


def _voc(place: str, split: str, kind: str = "VOCDataset", **other: Any) -> dict[str, Any]:
    return dict(
        type=kind, ann_file=f"{place}ImageSets/Main/{split}.txt", data_prefix=dict(sub_data_root=place), **other
    )


LAYOUTS: dict[str, list[dict[str, Any]]] = dict(
    digits=[_voc("", split, "XMLDataset", metainfo=dict(classes=digits.CLASSES)) for split in ("train", "val")],
    voc=[_voc("VOC2007/", "trainval"), _voc("VOC2007/", "test"), _voc("VOC2012/", "trainval")],
    coco=[
        dict(type="CocoDataset", ann_file=f"annotations/instances_{year}.json", data_prefix=dict(img=f"{year}/"))
        for year in ("train2017", "val2017")
    ],
    kitti=[dict(type="KittiDataset", ann_file=f"ImageSets/{split}.txt") for split in ("train", "val")],
    widerface=[
        dict(type="WIDERFaceDataset", ann_file=f"{split}.txt", data_prefix=dict(img=f"WIDER_{split}"))
        for split in ("train", "val")
    ],
)


def named(name: str, root: Path) -> list[Split]:
    """The splits of a data set that `prepare` knows, in its own folder.

    Raises:
        FileNotFoundError: A list or an annotation file is not there; names the nearest.
    """
    return _splits({**layout, "data_root": str(root)} for layout in LAYOUTS[name])


def configured(path: Path) -> list[Split]:
    """The data sets of a config's dataloaders, each once.

    Raises:
        FileNotFoundError: No such config, list or annotation file; names the nearest.
        ValueError: It has no data sets, or one of a type whose files are not known here.
    """
    cfg = read_config(str(path), "config")
    loaders = {f"{name}_dataloader": cfg.get(f"{name}_dataloader") or {} for name in ("train", "val", "test")}
    leaves = []
    for name, loader in loaders.items():
        with blamed(f"{name}.dataset"):
            leaves += list(_leaves(loader["dataset"])) if "dataset" in loader else []
    if not leaves:
        raise ValueError(f"{path} has no train_dataloader, val_dataloader or test_dataloader with a dataset")
    return _splits(leaves)


def _leaves(dataset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The data sets that wrappers, such as ConcatDataset and RepeatDataset, hold."""
    inner = [*dataset.get("datasets", ()), *filter(None, [dataset.get("dataset")])]
    if not inner:
        yield dataset
    for one in inner:
        yield from _leaves(one)


def _splits(datasets: Iterable[Mapping[str, Any]]) -> list[Split]:
    found: dict[tuple[str, ...], Split] = {}
    with DefaultScope.overwrite_default_scope("mmdet"):
        for cfg in datasets:
            with blamed("dataset"):
                data = build(DATASETS, {**cfg, "pipeline": [], "lazy_init": True})
                key = (str(data.ann_file), str(data.data_prefix), str(cfg.get("split")))  # test is often val once more
                classes = TYPES if isinstance(data, KittiDataset) else data.metainfo["classes"]
                found.setdefault(key, Split(classes, _records(data)))
    return list(found.values())


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; {nearest_file(path)}")
    return path


def _records(data: Any) -> Iterable[Record]:
    if isinstance(data, CocoDataset):
        return from_coco(Path(data.ann_file), Path(data.data_prefix["img"]))
    if isinstance(data, KittiDataset):
        images, labels = Path(data.data_prefix["img"]), data.data_prefix.get("label")
        shown = Path(labels) if labels else images
        ids = listed(Path(data.ann_file)) if data.ann_file else sorted(file.stem for file in _folder(shown).iterdir())
        return from_kitti(data.cut.of(ids, f"frames in {images}"), Path(labels) if labels else None, images)
    if isinstance(data, VOCFolderDataset):  # which finds the images, and refuses XML without one, itself
        return from_xml((Path(item["xml_path"]), Path(item["img_path"])) for item in data.load_data_list())
    if isinstance(data, WIDERFaceDataset):
        root = Path(data.data_prefix["img"])
        pairs = ((root / "Annotations" / f"{name}.xml", root / f"{name}.jpg") for name in listed(Path(data.ann_file)))
        return from_xml(pairs, folders=True)
    if isinstance(data, XMLDataset):
        root = Path(data.sub_data_root)
        return from_xml(
            (root / data.ann_subdir / f"{name}.xml", root / data.img_subdir / f"{name}.jpg")
            for name in listed(Path(data.ann_file))
        )
    raise ValueError(
        f"{type(data).__name__} keeps its annotations in a way not known here; CocoDataset, XMLDataset, "
        f"WIDERFaceDataset, VOCFolderDataset, KittiDataset and those made from them can be checked"
    )
