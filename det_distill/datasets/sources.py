"""Where the data sets come from: addresses, sizes in bytes, checksums, and how many files they hold.

VOC's and WIDER FACE's md5 are torchvision's (`torchvision.datasets.voc`, `.widerface`), COCO's are what many projects
record. KITTI publishes no checksum: the sha256 are those tensorflow_datasets recorded from the same address, and the
files are counted. WIDER FACE's authors link Google Drive, which no plain request fetches, and Hugging Face, used here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from det_distill.datasets.fetch import Archive

_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"  # what host.robots.ox.ac.uk is called now
_COCO = "http://images.cocodataset.org"
_KITTI = "https://s3.eu-central-1.amazonaws.com/avg-kitti"
_WIDER = "https://huggingface.co/datasets/CUHK-CSE/wider_face/resolve/main/data"


@dataclass(frozen=True)
class Part:
    """Folders that come from the same archives, and appear together."""

    archives: tuple[Archive, ...]
    moves: Mapping[str, str]  # folder in the archives -> folder below the data set's root; what is needed, last
    counts: Mapping[str, int]  # pattern below the root -> how many files match
    fresh: Mapping[str, int] = field(default_factory=dict)  # the same, of the archives alone: a user's copy may lack it


VOC = (
    Part(
        (
            Archive(f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", 460032000, "md5:c52e279531787c972589f7e41ab4ae64"),
            Archive(f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", 451020800, "md5:b6e924de25625d8de591ea690078ad9f"),
        ),
        {"VOCdevkit/VOC2007": "VOC2007"},
        {
            "VOC2007/JPEGImages/*.jpg": 9963,
            "VOC2007/Annotations/*.xml": 9963,
            "VOC2007/ImageSets/Main/trainval.txt": 1,
            "VOC2007/ImageSets/Main/test.txt": 1,
        },
    ),
    Part(
        (Archive(f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", 1999639040, "md5:6cd6e144f989b92b3379bac3b3de84fd"),),
        {"VOCdevkit/VOC2012": "VOC2012"},
        {
            "VOC2012/JPEGImages/*.jpg": 17125,
            "VOC2012/Annotations/*.xml": 17125,
            "VOC2012/ImageSets/Main/trainval.txt": 1,
        },
    ),
)

COCO = (
    Part(
        (Archive(f"{_COCO}/zips/train2017.zip", 19336861798, "md5:cced6f7f71b7629ddf16f17bbcfab6b2"),),
        {"train2017": "train2017"},
        {"train2017/*.jpg": 118287},
    ),
    Part(
        (Archive(f"{_COCO}/zips/val2017.zip", 815585330, "md5:442b8da7639aecaf257c1dceb8ba8c80"),),
        {"val2017": "val2017"},
        {"val2017/*.jpg": 5000},
    ),
    Part(
        (
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip", 252907541, "md5:f4bbac642086de4f52a3fdda2de5fa2c"
            ),
        ),
        {"annotations": "annotations"},
        {"annotations/instances_train2017.json": 1, "annotations/instances_val2017.json": 1},
    ),
)

KITTI = (
    Part(
        (
            Archive(
                f"{_KITTI}/data_object_image_2.zip",
                12569945557,
                "sha256:351c5a2aa0cd9238b50174a3a62b846bc5855da256b82a196431d60ff8d43617",
            ),
        ),
        {"testing/image_2": "testing/image_2", "training/image_2": "training/image_2"},
        {"training/image_2/*.png": 7481},
        {"testing/image_2/*.png": 7518},
    ),
    Part(
        (
            Archive(
                f"{_KITTI}/data_object_label_2.zip",
                5601213,
                "sha256:4efc76220d867e1c31bb980bbf8cbc02599f02a9cb4350effa98dbb04aaed880",
            ),
        ),
        {"training/label_2": "training/label_2"},
        {"training/label_2/*.txt": 7481},
    ),
)

_WIDER_SPLIT = Archive(
    "http://shuoyang1213.me/WIDERFACE/support/bbx_annotation/wider_face_split.zip",
    3591642,
    "md5:0e3767bcf0e326556d407bf5bff5d27c",
)

WIDERFACE = tuple(
    Part(
        (Archive(f"{_WIDER}/WIDER_{split}.zip", size, checksum), _WIDER_SPLIT),
        {f"WIDER_{split}/images": f"WIDER_{split}"},
        {f"WIDER_{split}/*/*.jpg": images, f"WIDER_{split}/Annotations/*.xml": images},
    )
    for split, size, checksum, images in (
        ("train", 1465602149, "md5:3fedf70df600953d25982bcd13d91ba2", 12880),
        ("val", 362752168, "md5:dfa7d7e790efa35df3788964cf0bbaea", 3226),
    )
)
