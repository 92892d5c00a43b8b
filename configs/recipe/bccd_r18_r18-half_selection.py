"""R18 half begins as a part of R18 and then learns alone: what the recipe owes to its beginning; blood smears."""

_base_ = "../combined/bccd_r18_r18-half.py"

model = dict(init_cfg=dict(type="WeightSelection"), terms=dict(_delete_=True), task_weights=None)
