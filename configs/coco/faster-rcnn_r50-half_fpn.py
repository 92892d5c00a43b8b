"""MMDetection's Faster R-CNN FPN 1x on COCO with a ResNet-50 of half width, FPN kept at 256 channels.

No weights are published at that width: every layer learns, BN too.
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"

model = dict(
    backbone=dict(base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
optim_wrapper = dict(clip_grad=dict(max_norm=10))  # [code], for the student alone and distilled alike
