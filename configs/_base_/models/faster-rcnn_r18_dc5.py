"""Faster R-CNN on a ResNet-18 whose last stage is dilated: one map of stride 16, rectified, 512 channels."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50-caffe-dc5.py"

model = dict(
    data_preprocessor=dict(  # torchvision's normalisation
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        depth=18,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
    ),
    rpn_head=dict(in_channels=512, feat_channels=512),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=512),
        bbox_head=dict(in_channels=512),
    ),
)
