"""A single-stage BCCD student alone: FCOS on R18 at half width on a short budget, 6 epochs."""

_base_ = [
    "../_base_/models/fcos_r18-half_fpn64.py",
    "../_base_/datasets/bccd.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(bbox_head=dict(num_classes=3))
