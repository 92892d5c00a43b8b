"""R-FCN on ResNet-18 for small images, trained from scratch: every layer learns, BN included.

Stride 8, the last two stages dilated: at 16 an object of 40 px would have two cells a side for seven bins.
"""

_base_ = "rfcn_r101.py"

model = dict(
    data_preprocessor=dict(  # as MMDetection's RGB configs
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        depth=18,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        style="pytorch",
        init_cfg=None,
    ),
    # A 3x3 of 512, for R-FCN has no layers per RoI: on the digits 5 AP above a 1x1 of 256.
    neck=dict(in_channels=[512], kernel_size=3, out_channels=512),
    rpn_head=dict(
        in_channels=512,
        feat_channels=256,
        anchor_generator=dict(scales=[2, 4, 8, 16], strides=[8]),  # 16 to 128 px
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(type="PSRoIAlign", sampling_ratio=2),
            in_channels=512,
            featmap_strides=[8],
        ),
        bbox_head=dict(loss_bbox=dict(type="L1Loss", loss_weight=1.0)),  # as the Faster R-CNNs here
    ),
    train_cfg=dict(rpn=dict(allowed_border=-1)),  # few anchors of a small image lie wholly inside
    test_cfg=dict(rcnn=dict(nms=dict(iou_threshold=0.5))),
)
