"""The hint alone of Chen et al. (2017), on blood smears."""

_base_ = "bccd_r18_r18-half.py"

model = dict(terms=dict(roi_soft=None, rpn_soft=None, roi_bounded=None, rpn_bounded=None), task_weights=None)
