"""The cards teacher: R18 at half width, 36 epochs with flips and scale jitter; about 20 minutes on two cores.

The same net as the student, which sees half the resolution: Chen et al. (2017) distil across resolutions like this.
"""

_base_ = "faster-rcnn_r18-half_fpn64.py"

work_dir = "work_dirs/cards_teacher"  # the digits have a teacher of the same name
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
