"""Faster R-CNN R18 of a sixteenth of the width on KITTI, 12 epochs."""

_base_ = [
    "../_base_/models/faster-rcnn_r18-16th_dc5.py",
    "../_base_/datasets/kitti.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8, 16])),  # [ours] objects are 25 to 300 px tall
    roi_head=dict(bbox_head=dict(num_classes=3)),
)
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-3),  # [stock] 0.02 for 16 images a step, scaled to 2
    clip_grad=dict(max_norm=10),  # [ours], as the Faster R-CNNs here
)
auto_scale_lr = dict(base_batch_size=2)
