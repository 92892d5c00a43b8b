"""The cards student alone: R18 at half width, 24 epochs: ranks are told apart late."""

_base_ = [
    "../_base_/models/faster-rcnn_r18-half_fpn64.py",
    "../_base_/datasets/cards.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=6)))
train_cfg = dict(max_epochs=24, val_interval=24)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=24, convert_to_iter_based=True),
]
