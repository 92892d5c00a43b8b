"""The digits student alone at half the resolution, its pyramid brought to twice the size (Li et al., 2017).

RPN and RoI head have the grids they have at full resolution: anchors are of 8 px and up, half as large.
"""

_base_ = "faster-rcnn_r18-quarter_fpn32_half-res.py"

model = dict(
    neck=[
        {{_base_.model.neck}},
        dict(type="det_distill.models.necks.UpsampleNeck", in_channels=32, out_channels=32, levels=5),
    ],
    rpn_head=dict(anchor_generator=dict(strides=[2, 4, 8, 16, 32])),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[2, 4, 8, 16], finest_scale=28)),
)
