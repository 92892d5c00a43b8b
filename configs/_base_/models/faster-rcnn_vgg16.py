"""Faster R-CNN on VGG16 as Ren et al. (2015) built it: conv5_3 at stride 16, RoI pooling, fc6 and fc7 with dropout."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py"

pretrained = dict(type="Pretrained", checkpoint="torchvision://vgg16")
model = dict(
    data_preprocessor=dict(  # torchvision's normalisation
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    # Named by path, VGG is found by stock tools too, with no custom_imports.
    backbone=dict(
        _delete_=True,
        type="det_distill.models.vgg.VGGBackbone",
        depth=16,
        frozen_stages=2,  # [code] fixes the layers before conv3
        init_cfg=pretrained,
    ),
    rpn_head=dict(in_channels=512, feat_channels=512),
    roi_head=dict(
        shared_head=dict(
            _delete_=True,
            type="det_distill.models.vgg.VGGClassifier",
            init_cfg=pretrained,
        ),
        bbox_roi_extractor=dict(
            roi_layer=dict(_delete_=True, type="RoIPool", output_size=7),
            out_channels=512,
        ),
        bbox_head=dict(with_avg_pool=False, roi_feat_size=1, in_channels=4096),
    ),
)
