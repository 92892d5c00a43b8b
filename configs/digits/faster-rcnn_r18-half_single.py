"""What R-FCN on digits is compared with: backbone, neck, RPN and schedule are its own, the RoI head is Faster R-CNN's.

RoIAlign of the one map of stride 8 and two FC layers per RoI, where R-FCN votes.
"""

_base_ = "rfcn_r18-half.py"

model = dict(
    type="FasterRCNN",
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            _delete_=True,
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=2),
            out_channels=512,
            featmap_strides=[8],
        ),
        bbox_head=dict(
            _delete_=True,
            type="Shared2FCBBoxHead",
            in_channels=512,
            fc_out_channels=256,
            roi_feat_size=7,
            num_classes=10,
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
    ),
)
