"""A folder of images with one VOC XML beside each, as labelling tools leave it: no ImageSets, suffixes mixed.

Why: MMDetection's XMLDataset needs a list of names, and takes every image to be a `.jpg`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import cv2
from mmdet.datasets import XMLDataset
from mmdet.registry import DATASETS
from mmengine.fileio import get, isdir, join_path, list_dir_or_file

from det_distill.compat.checkpoints import nearest_file
from det_distill.datasets import sound_xml
from det_distill.datasets.cut import Cut
from det_distill.datasets.plain_text import lines
from det_distill.refusals import only_keys

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@DATASETS.register_module()
class VOCFolderDataset(XMLDataset):
    """Every XML of a folder, sorted by name, with the image beside it.

    The image has the XML's stem and any of the suffixes in `IMAGES`, in either case. Where no image or several have
    that stem, the XML's `<filename>` decides. Boxes, `difficult`, classes that `metainfo` lacks, and `filter_cfg` are
    XMLDataset's business. It stores the ground truth as `instances`, from which `CocoMetric` evaluates without a file.

    Args:
        data_prefix: `dict(img=...)`, the folder below `data_root`; other keys are refused.
        ann_file: Stems to use, one a line, as XMLDataset's; in that order. Every XML by default.
        split: "train" or "val" cuts the items in two, before anything is filtered; by default nothing is cut.
        val_every: Every so many-th item (with 5: the 5th, 10th, ...) is val, the rest train.
        **kwargs: XMLDataset's.

    Raises:
        FileNotFoundError: No such folder; names the nearest.
        ValueError: `metainfo` names no classes; the folder has no XML; an XML has no image, is broken, has a DOCTYPE
            (whose entities could expand without end), or lacks what VOC asks for; `ann_file` names what is not there.
    """

    def __init__(
        self,
        data_prefix: Mapping[str, str] | None = None,
        ann_file: str | None = "",
        split: str | None = None,
        val_every: int = 5,
        **kwargs: Any,
    ) -> None:
        only_keys(data_prefix or {}, ("img",), "data_prefix")
        self.cut = Cut(split, val_every)
        folder = {"img": "", **(data_prefix or {})}
        super().__init__(img_subdir="", ann_subdir="", data_prefix=folder, ann_file=ann_file, **kwargs)

    @property
    def sub_data_root(self) -> str:
        """The folder, where XMLDataset looks for the images."""
        return str(self.data_prefix["img"])

    def load_data_list(self) -> list[dict]:
        """What XMLDataset makes of each XML and its image."""
        classes = self._metainfo.get("classes")
        if not classes or isinstance(classes, str):
            raise ValueError(f"metainfo.classes={classes!r}; expected class names, as in dict(classes=('king', 'ace'))")
        self.cat2label = {name: label for label, name in enumerate(classes)}
        names = self._listing()
        xmls = {PurePath(name).stem: name for name in names if PurePath(name).suffix.lower() == ".xml"}
        if not xmls:
            raise ValueError(f"data_prefix.img={self.sub_data_root!r} holds no XML; found: {self._contents(names)}")
        images = {name for name in names if PurePath(name).suffix.lower() in IMAGES}
        stems = Counter(PurePath(name).stem for name in images)
        unique = {PurePath(name).stem: name for name in images if stems[PurePath(name).stem] == 1}
        items, orphans = [], []
        for stem in self.cut.of(self._stems(xmls), f"XML in {self.sub_data_root}"):
            path = join_path(self.sub_data_root, xmls[stem])
            root = sound_xml.parse(get(path, backend_args=self.backend_args), path)
            image = unique.get(stem, root.findtext("filename", "").strip())
            if image in images:
                items.append(dict(img_id=stem, file_name=image, xml_path=path))
            else:
                orphans.append(xmls[stem])
        if orphans:
            raise ValueError(
                f"{self.sub_data_root}: no image, or no single one, has the stem of an XML or is the one its "
                f"<filename> names: {_first(orphans)}"
            )
        return [self.parse_data_info(item) for item in items]

    def parse_data_info(self, img_info: dict) -> dict:
        """XMLDataset's, whose errors do not say which file."""
        try:
            info: dict = super().parse_data_info(img_info)
            return info
        except (AttributeError, TypeError, ValueError, OverflowError, cv2.error) as error:  # the last, of its image
            raise ValueError(
                f"{img_info['xml_path']}: {error!s:.200}; expected whole numbers in size.width and size.height, and in "
                f"every object a name and numbers in bndbox.xmin, ymin, xmax, ymax"
            ) from error

    def _listing(self) -> list[str]:
        """Names of the files in the folder, sorted; hidden ones are left out."""
        if not isdir(self.sub_data_root, backend_args=self.backend_args):
            raise FileNotFoundError(
                f"data_prefix.img: no folder {self.sub_data_root!r}; {nearest_file(Path(self.sub_data_root))}"
            )
        return sorted(list_dir_or_file(self.sub_data_root, list_dir=False, backend_args=self.backend_args))

    def _contents(self, names: list[str]) -> str:
        folders = sorted(list_dir_or_file(self.sub_data_root, list_file=False, backend_args=self.backend_args))
        kinds = Counter(PurePath(name).suffix or name for name in names)
        return _first([f"{count} {kind}" for kind, count in kinds.items()] + [f"{name}/" for name in folders], 8)

    def _stems(self, xmls: Iterable[str]) -> list[str]:
        if not self.ann_file:
            return list(xmls)
        listed = lines(self.ann_file, self.backend_args)
        absent = [stem for stem in listed if stem not in xmls]
        if absent:
            raise ValueError(f"ann_file={self.ann_file!r} names what {self.sub_data_root} lacks: {_first(absent)}")
        return listed


def _first(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(name[:80] for name in names[:limit]) + more
