"""KITTI's 2D objects as they are downloaded: cars, pedestrians and cyclists, at 1242x375.

ImageSets/train.txt and val.txt list frame ids: Chen et al.'s cut of the labelled images, 3712 and 3769.
"""

data_root = "data/kitti/"
classes = ("Car", "Pedestrian", "Cyclist")
metainfo = dict(classes=classes)
scale = (1242, 375)  # the camera's own size, to a few pixels
folders = dict(img="training/image_2/", label="training/label_2/")  # val, too, is of KITTI's labelled images

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
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
# Named by path, both are found by stock tools too, with no custom_imports.
dataset_type = "det_distill.datasets.kitti.KittiDataset"
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="ImageSets/train.txt",
        data_prefix=folders,
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="ImageSets/val.txt",
        data_prefix=folders,
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="det_distill.metrics.kitti.KittiMetric", ann_dir=data_root + folders["label"])
test_evaluator = val_evaluator
