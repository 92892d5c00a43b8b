"""The R-FCN student on digits alone: R18 at quarter width, neck of 256, on a short budget: 4 epochs."""

_base_ = "rfcn_r18-half.py"

model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[128], out_channels=256),
    rpn_head=dict(in_channels=256, feat_channels=128),
    roi_head=dict(bbox_roi_extractor=dict(in_channels=256)),
)
train_cfg = dict(max_epochs=4, val_interval=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=4, convert_to_iter_based=True),
]
