"""R-FCN on ResNet-50."""

_base_ = "rfcn_r101.py"

model = dict(
    backbone=dict(
        depth=50,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe"),
    ),
)
