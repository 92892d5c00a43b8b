"""BCCD: 364 blood smears of 640x480 in VOC layout (train 205, val 87, test 72), fed at 320x240.

Boxes of zero area (two files have one) are ignored in training; COCO AP counts VOC's own boxes.
"""

data_root = "../shared/data/bccd"
classes = ("RBC", "WBC", "Platelets")
scale = (320, 240)
backend_args = None
metainfo = dict(classes=classes)
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    # CocoMetric takes the ground truth from `instances` where no COCO json is named.
    dict(type="PackDetInputs", meta_keys=(*meta_keys, "instances")),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,  # fresh workers every epoch: a resumed run draws the same augmentations
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="VOCDataset",
        data_root=data_root,
        ann_file="ImageSets/Main/train.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=1),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VOCDataset",
        data_root=data_root,
        ann_file="ImageSets/Main/val.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = {**val_dataloader, "dataset": {**val_dataloader["dataset"], "ann_file": "ImageSets/Main/test.txt"}}
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator
