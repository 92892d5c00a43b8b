"""The cards' student on 75 frames of KITTI: R18 at half width, 14 epochs, about 5 minutes on one thread."""

_base_ = [
    "../_base_/models/faster-rcnn_r18-half_fpn64.py",
    "../_base_/datasets/kitti_tiny.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4])),  # 16 to 256 px: at half their size, objects are 7 to 140 px
    roi_head=dict(bbox_head=dict(num_classes=3)),
)
train_cfg = dict(max_epochs=14, val_interval=14)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=14, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=2)
