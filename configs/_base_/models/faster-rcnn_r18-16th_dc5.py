"""The same with a sixteenth of the channels, heads too. No weights are published at that width: all learns, BN too."""

_base_ = "faster-rcnn_r18_dc5.py"

model = dict(
    backbone=dict(
        base_channels=4,
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=64),
    ),
)
