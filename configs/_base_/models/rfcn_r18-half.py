"""The same with a ResNet-18 of half width, base width 32; the neck keeps its 512 channels."""

_base_ = "rfcn_r18.py"

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[256]),
)
