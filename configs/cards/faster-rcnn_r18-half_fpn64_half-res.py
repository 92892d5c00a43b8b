"""The cards student alone at half the resolution, 128x96: cards of 15 to 90 px, whose corners can hardly be read.

The anchors stay as they are, 32 px and up: a card finds its anchors one level lower in the pyramid.
"""

_base_ = "faster-rcnn_r18-half_fpn64.py"

scale = (128, 96)
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5, direction="diagonal"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=(*meta_keys, "instances")),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
