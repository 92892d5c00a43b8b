"""The hint alone of Chen et al. (2017), on the digits."""

_base_ = "digits_r18-half_r18-quarter.py"

model = dict(terms=dict(roi_soft=None, rpn_soft=None, roi_bounded=None, rpn_bounded=None), task_weights=None)
