"""R-FCN R50 on Pascal VOC 07+12 at 344 pixels, its map brought to stride 8 (Li et al., 2017).

RPN and RoI head have the grid, and see the boxes in cells, that R-FCN has at 688 pixels: anchors keep their scales.
"""

_base_ = ["../_base_/models/rfcn_r50.py", "voc0712_4e_344px.py"]

model = dict(
    neck=[
        {{_base_.model.neck}},
        dict(type="det_distill.models.necks.UpsampleNeck", in_channels=1024, out_channels=1024),
    ],
    rpn_head=dict(anchor_generator=dict(strides=[8])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[8]),
        bbox_head=dict(num_classes=20),
    ),
)
train_dataloader = dict(batch_size=2)  # [code] iter_size
optim_wrapper = dict(optimizer=dict(lr=1e-3))  # [code]
auto_scale_lr = dict(base_batch_size=2)
