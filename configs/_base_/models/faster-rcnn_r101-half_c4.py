"""Faster R-CNN C4 on a ResNet-101 of half width. No weights are published at that width: every layer learns, BN too."""

_base_ = "faster-rcnn_r101_c4.py"

model = dict(
    backbone=dict(
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    rpn_head=dict(in_channels=512, feat_channels=512),
    roi_head=dict(
        shared_head=dict(  # MMDetection's ResLayer knows full width only
            _delete_=True,
            type="det_distill.models.res_stage.ResNetStage",
            depth=101,
            base_channels=32,
            style="caffe",
            norm_eval=False,
        ),
        bbox_roi_extractor=dict(out_channels=512),
        bbox_head=dict(in_channels=1024),
    ),
)
