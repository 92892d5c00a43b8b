"""The cards teacher: R18 FPN, 36 epochs with flips and scale jitter; about 40 minutes on two cores."""

_base_ = [
    "../_base_/models/faster-rcnn_r18_fpn.py",
    "../_base_/datasets/cards.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=6)))
train_cfg = dict(max_epochs=36, val_interval=6)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=36, convert_to_iter_based=True),
]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomChoiceResize",
        scales=[(208, 156), (232, 174), (256, 192), (280, 210), (304, 228)],
        keep_ratio=True,
    ),
    # No two ranks are each other's mirror image, so that mirrored cards do no harm.
    dict(type="RandomFlip", prob=[0.25, 0.25], direction=["horizontal", "diagonal"]),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
