"""The recipe with adapters that begin as the identity, of the heaviest of the teacher's channels."""

_base_ = "bccd_r18_r18-half_identity.py"

model = dict(init_cfg=dict(channels="heaviest"))
