"""The cards student alone: R18 at half width on a short budget, 6 epochs, about 3 minutes on two cores."""

_base_ = [
    "../_base_/models/faster-rcnn_r18-half_fpn64.py",
    "../_base_/datasets/cards.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=6)))
