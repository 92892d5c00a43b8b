"""Faster R-CNN FPN R50 on KITTI, 12 epochs."""

_base_ = [
    "mmdet::_base_/models/faster-rcnn_r50_fpn.py",
    "../_base_/datasets/kitti.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-3),  # [stock] 0.02 for 16 images a step, scaled to 2
    clip_grad=dict(max_norm=10),  # [code], for teacher, student alone and distilled alike
)
auto_scale_lr = dict(base_batch_size=2)
