"""R-FCN R101 on COCO with MMDetection's images and 1x schedule [ours]."""

_base_ = [
    "../_base_/models/rfcn_r101.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]

model = dict(rpn_head=dict(anchor_generator=dict(scales=[4, 8, 16, 32])))  # [code] on COCO
optim_wrapper = dict(
    optimizer=dict(lr=8e-3, weight_decay=5e-4),  # [code] 5e-4 an image, scaled to 16 images a step; decay [paper]
    clip_grad=dict(max_norm=10),  # [ours], as the Faster R-CNNs here
)
