"""Faster R-CNN R18 of a sixteenth of the width on Pascal VOC 07+12."""

_base_ = ["../_base_/models/faster-rcnn_r18-16th_dc5.py", "voc0712_4e.py"]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[8, 16, 32])),  # [code] on VOC
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
