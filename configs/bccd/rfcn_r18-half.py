"""The R-FCN student on BCCD alone: R18 at half width on one map of stride 8, 6 epochs."""

_base_ = [
    "../_base_/models/rfcn_r18-half.py",
    "../_base_/datasets/bccd.py",
    "../_base_/schedules/adamw.py",
    "../_base_/default_runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
