"""R18 half begins as a part of R18, and learns of it by soft labels, bounded boxes and imitation; blood smears."""

_base_ = "../combined/bccd_r18_r18-half.py"

model = dict(init_cfg=dict(type="WeightSelection"))
