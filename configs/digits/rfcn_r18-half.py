"""R-FCN on digits: R18 at half width on one map of stride 8, 7 epochs, as the Faster R-CNN teacher there."""

_base_ = [
    "../_base_/models/rfcn_r18-half.py",
    "../_base_/datasets/digits.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

proposals = dict(nms_pre=500, max_per_img=200)  # a scene of 160x160 needs no more
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8])),  # digits are 16 to 69 px tall
    roi_head=dict(bbox_head=dict(num_classes=10)),
    train_cfg=dict(rpn_proposal=proposals, rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=proposals),
)
train_cfg = dict(max_epochs=7, val_interval=7)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=7, convert_to_iter_based=True),
]
