"""R18 half begins as the heaviest part of R18 and then learns alone; blood smears."""

_base_ = "bccd_r18_r18-half_selection.py"

model = dict(init_cfg=dict(channels="heaviest"))
