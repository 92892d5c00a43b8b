"""The smaller cards student alone: R18 at quarter width, FPN 32, 12 epochs."""

_base_ = "faster-rcnn_r18-half_fpn64.py"

model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=128),
    ),
)
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=12, convert_to_iter_based=True),
]
