"""R18 at half width on coco128, 12 epochs from scratch: a trial of the COCO route, about 5 minutes on two cores."""

_base_ = [
    "../_base_/models/faster-rcnn_r18-half_fpn64.py",
    "../_base_/datasets/coco128.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=12, convert_to_iter_based=True),
]
