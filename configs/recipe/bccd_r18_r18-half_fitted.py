"""The recipe of the heaviest channels, their layers fitted to the teacher's by least squares before the first step."""

_base_ = "bccd_r18_r18-half_heaviest.py"

model = dict(init_cfg=dict(reconstruct=dict(images=96)))
