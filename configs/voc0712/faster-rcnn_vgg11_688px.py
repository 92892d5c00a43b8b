"""Faster R-CNN VGG11 on Pascal VOC 07+12 at 688 pixels."""

_base_ = ["../_base_/models/faster-rcnn_vgg11.py", "voc0712_4e_688px.py"]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[8, 16, 32])),  # [code] on VOC
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
