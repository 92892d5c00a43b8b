"""Playing cards: 363 photos with a VOC XML beside each (train 237, val 59, test 67), six ranks, fed at 256x192.

Mostly 378x504, some 960x540; at 256 pixels on the long side a card's corner can still be read, at 128 hardly. The
files have no val: every fifth of train, by name, is. Shots of one table follow each other by name, and test is
strewn among train in the same way, so that val asks for what test asks for.
"""

data_root = "../shared/data/cards"
classes = ("nine", "ten", "jack", "queen", "king", "ace")
scale = (256, 192)
backend_args = None
metainfo = dict(classes=classes)
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5, direction="diagonal"),  # half a turn, after which a card is the same card
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    # CocoMetric takes the ground truth from `instances` where no COCO json is named.
    dict(type="PackDetInputs", meta_keys=(*meta_keys, "instances")),
]
# Named by path, the data set is found by stock tools too, with no custom_imports.
dataset_type = "det_distill.datasets.voc_folder.VOCFolderDataset"
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,  # fresh workers every epoch: a resumed run draws the same augmentations
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img="train/"),
        split="train",
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
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img="train/"),
        split="val",
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = {
    **val_dataloader,
    "dataset": {**val_dataloader["dataset"], "data_prefix": dict(img="test/"), "split": None},
}
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator
