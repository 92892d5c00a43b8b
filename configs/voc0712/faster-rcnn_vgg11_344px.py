"""Faster R-CNN VGG11 on Pascal VOC 07+12 at 344 pixels."""

_base_ = ["../_base_/models/faster-rcnn_vgg11.py", "voc0712_4e_344px.py"]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4, 8, 16])),  # [ours] halved with the objects
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
