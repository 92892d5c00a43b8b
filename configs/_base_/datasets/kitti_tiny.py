"""75 frames of KITTI, fed at half their size, 624x188: 60 train, 15 val, test the same as val.

Every fifth frame is val, for the frames come without lists; it has no cyclist, so that Cyclist is NaN and no part of
the means. KITTI's own AP is meant for more objects than val has and stays low even for a perfect net (see
det_distill/metrics/kitti_ap.py): compare by kitti/mAP.
"""

data_root = "../shared/data/kitti_tiny/"
classes = ("Car", "Pedestrian", "Cyclist")
metainfo = dict(classes=classes)
scale = (624, 188)
folders = dict(img="training/image_2/", label="training/label_2/")
backend_args = None

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
    persistent_workers=False,  # fresh workers every epoch: a resumed run draws the same augmentations
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=folders,
        split="train",
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=folders,
        split="val",
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="det_distill.metrics.kitti.KittiMetric", ann_dir=data_root + folders["label"])
test_evaluator = val_evaluator
