"""MMDetection's Faster R-CNN FPN with a ResNet-18, trained from scratch: every layer learns, BN included."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
    ),
)
