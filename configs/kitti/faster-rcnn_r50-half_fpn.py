"""The same with a ResNet-50 of half width, FPN kept at 256. No weights are published at that width: all learns."""

_base_ = "faster-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
