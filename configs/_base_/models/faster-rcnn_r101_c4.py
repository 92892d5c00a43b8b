"""MMDetection's Faster R-CNN C4, deepened to ResNet-101."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py"

pretrained = dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet101_caffe")
model = dict(
    backbone=dict(depth=101, init_cfg=pretrained),
    roi_head=dict(shared_head=dict(depth=101, init_cfg=pretrained)),
)
