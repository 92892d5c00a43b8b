"""Faster R-CNN on VGG11: eight convolutions instead of thirteen, otherwise as VGG16."""

_base_ = "faster-rcnn_vgg16.py"

pretrained = dict(type="Pretrained", checkpoint="torchvision://vgg11")
model = dict(
    backbone=dict(depth=11, init_cfg=pretrained),
    roi_head=dict(shared_head=dict(init_cfg=pretrained)),
)
