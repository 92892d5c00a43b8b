"""The same at half width: ResNet-18 of base width 32, FPN of 64, heads of 256; about a fifth of the parameters."""

_base_ = "faster-rcnn_r18_fpn.py"

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
    ),
)
