"""MMDetection's RetinaNet with a ResNet-18 of half width, FPN of 64 and one convolution a branch, from scratch."""

_base_ = "mmdet::_base_/models/retinanet_r50_fpn.py"

model = dict(
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64, stacked_convs=1),
)
