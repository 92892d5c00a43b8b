"""Faster R-CNN R18 of a sixteenth of the width on COCO with MMDetection's images and 1x schedule [ours]."""

_base_ = [
    "../_base_/models/faster-rcnn_r18-16th_dc5.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]

optim_wrapper = dict(clip_grad=dict(max_norm=10))  # [ours], as the Faster R-CNNs here
