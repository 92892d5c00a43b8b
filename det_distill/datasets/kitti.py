"""KITTI's 2D objects as they are downloaded: a folder of images, a folder of label files, lists of frame ids."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.fileio import get, get_local_path, isdir, join_path, list_dir_or_file

from det_distill.compat.checkpoints import nearest_file
from det_distill.datasets.cut import Cut
from det_distill.datasets.kitti_labels import TYPES, parse_labels
from det_distill.datasets.pictures import size_of
from det_distill.datasets.plain_text import decoded, lines
from det_distill.refusals import choice, only_keys, suggestion

FOLDERS = {"img": "training/image_2/", "label": "training/label_2/"}
IMAGES = (".png", ".jpg", ".jpeg")
IGNORE = "ignore"
DEFAULT_MAP = {"Van": IGNORE, "Person_sitting": IGNORE, "DontCare": IGNORE}
# What a detection of the class may hit without harm; MMDetection's metrics match ignored areas class by class.
NEIGHBOURS = {"Van": "Car", "Person_sitting": "Pedestrian"}


@DATASETS.register_module()
class KittiDataset(BaseDetDataset):
    """Frames with `img_id` the frame id, such as "000123", sizes from the images' headers, and the ground truth.

    A type of KITTI's becomes a class, an ignored area (`ignore_flag=1`, so MMDetection's `ignored_instances`), or is
    left out. By default a type named as a class is that class, Van, Person_sitting and DontCare are ignored areas, and
    Truck, Tram and Misc are left out. Ignored areas have the label -1, as CrowdHumanDataset's, but Van has Car's and
    Person_sitting Pedestrian's.

    Why not only in `KittiMetric`: a net that is told a van is background unlearns cars. `CocoMetric` evaluates from
    the samples' `instances` where no file is named; it forgives vans as KITTI does, but not what lies in DontCare.

    Args:
        ann_file: List of frame ids, one a line, in that order; by default every label file, sorted.
        data_prefix: `dict(img=..., label=...)`, folders below `data_root`; `label=None` where there are no labels, as
            in KITTI's test set, whose frames are then all images.
        class_map: Type to one of the classes, "ignore" or None; what it does not name stays as by default.
        split: "train" or "val" cuts the frames in two, before anything is filtered; by default nothing is cut.
        val_every: Every so many-th frame (with 5: the 5th, 10th, ...) is val, the rest train.
        filter_cfg: `filter_empty_gt` drops frames in which nothing but ignored areas is left, `min_size` those with a
            shorter side in px; training only.
        **kwargs: BaseDetDataset's.

    Raises:
        FileNotFoundError: No such folder; names the nearest.
        ValueError: An unknown type or class, a broken label file (says the line), a frame without its files, an image
            without a sound header.
    """

    METAINFO = {
        "classes": ("Car", "Pedestrian", "Cyclist"),
        "palette": [(220, 20, 60), (119, 11, 32), (0, 0, 230)],
    }

    def __init__(
        self,
        ann_file: str = "",
        data_prefix: Mapping[str, str | None] | None = None,
        class_map: Mapping[str, str | None] | None = None,
        split: str | None = None,
        val_every: int = 5,
        filter_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        only_keys(data_prefix or {}, tuple(FOLDERS), "data_prefix")
        only_keys(class_map or {}, TYPES, "class_map")
        only_keys(filter_cfg or {}, ("filter_empty_gt", "min_size"), "filter_cfg")
        self.cut = Cut(split, val_every)
        self.class_map = dict(class_map or {})
        folders = {key: folder for key, folder in {**FOLDERS, **(data_prefix or {})}.items() if folder is not None}
        super().__init__(ann_file=ann_file, data_prefix=folders, filter_cfg=filter_cfg, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict a frame: `img_id`, `img_path`, `height`, `width`, `instances`."""
        roles = self._roles()
        files = {
            key: self._files(key, suffixes)
            for key, suffixes in (("img", IMAGES), ("label", (".txt",)))
            if key in self.data_prefix
        }
        if self.ann_file:
            frames = [frame for frame in lines(self.ann_file, self.backend_args) if frame]
        else:
            frames = sorted(files.get("label", files["img"]))
        if not frames:
            raise ValueError(f"ann_file={self.ann_file!r}, data_prefix={self.data_prefix}: no frames there")
        for key, found in files.items():
            absent = [frame for frame in frames if frame not in found]
            if absent:
                asked = f"ann_file={self.ann_file!r}" if self.ann_file else "data_prefix.label"
                raise ValueError(
                    f"data_prefix.{key}={self.data_prefix[key]!r} lacks {len(absent)} frames that {asked} has, "
                    f"as {absent[0]!r:.80}{suggestion(absent[0], found)}"
                )
        frames = self.cut.of(frames, f"frames in {self.data_prefix['img']}")
        labels = files.get("label", {})
        return [self._info(frame, files["img"][frame], labels.get(frame), roles) for frame in frames]

    def filter_data(self) -> list[dict]:
        """What `filter_cfg` leaves; everything in `test_mode`."""
        if self.test_mode:
            return self.data_list
        rules = self.filter_cfg or {}
        return [
            info
            for info in self.data_list
            if min(info["width"], info["height"]) >= rules.get("min_size", 0)
            and not (rules.get("filter_empty_gt") and all(one["ignore_flag"] for one in info["instances"]))
        ]

    def _roles(self) -> dict[str, tuple[int, int]]:
        """Type to (label, ignore_flag), of the types that are not left out."""
        classes = list(self.metainfo["classes"])
        named = {name: name for name in classes if name in TYPES}
        targets = {**DEFAULT_MAP, **named, **self.class_map}
        roles = {}
        for kind, target in targets.items():
            if target == IGNORE:
                neighbour = targets.get(NEIGHBOURS.get(kind))
                roles[kind] = (classes.index(neighbour) if neighbour in classes else -1, 1)
            elif target is not None:
                roles[kind] = (classes.index(choice(f"class_map.{kind}", target, [*classes, IGNORE])), 0)
        for label, name in enumerate(classes):
            if (label, 0) not in roles.values():
                hint = suggestion(name, [kind for kind in TYPES if kind != name])
                raise ValueError(f"metainfo.classes: no type becomes '{name}'{hint}; types: {', '.join(TYPES)}")
        return roles

    def _files(self, key: str, suffixes: tuple[str, ...]) -> dict[str, str]:
        """Frame id to the path of its file."""
        folder = self.data_prefix[key]
        if not isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(f"data_prefix.{key}: no folder {folder!r}; {nearest_file(Path(folder))}")
        listed = list_dir_or_file(folder, list_dir=False, backend_args=self.backend_args)
        names = sorted(name for name in listed if PurePath(name).suffix.lower() in suffixes)
        twice = [stem for stem, count in Counter(PurePath(name).stem for name in names).items() if count > 1]
        if twice:
            raise ValueError(f"data_prefix.{key}={folder!r} has {len(twice)} frames twice, as {twice[0]}; expected one")
        return {PurePath(name).stem: join_path(folder, name) for name in names}

    def _info(self, frame: str, image: str, label: str | None, roles: dict[str, tuple[int, int]]) -> dict:
        with get_local_path(image, backend_args=self.backend_args) as local:
            width, height = size_of(Path(local))
        instances = []
        if label is not None:
            objects = parse_labels(decoded(get(label, backend_args=self.backend_args), label), label)
            for kind, box in zip(objects.types, objects.boxes.tolist(), strict=True):
                if kind in roles:
                    index, ignored = roles[kind]
                    instances.append(dict(bbox=box, bbox_label=index, ignore_flag=ignored))
        return dict(img_id=frame, img_path=image, height=height, width=width, instances=instances)
