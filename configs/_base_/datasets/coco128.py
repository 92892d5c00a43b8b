"""COCO in miniature: 128 images of train2017 and 128 of val2017, 80 classes, fed at 320x240; COCO AP.

Of val the boxes alone are there, without crowds: converted from YOLO's labels. So few images teach no detector: this is
for trying a run.
"""

_base_ = "bccd.py"

data_root = "../shared/data/coco128/"
metainfo = None  # CocoDataset knows COCO's 80 classes
train_dataloader = dict(
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(_delete_=True, img="train2017/"),
        metainfo=metainfo,
    )
)
val_dataloader = dict(
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017_from_yolo.json",
        data_prefix=dict(_delete_=True, img="val2017/"),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader
