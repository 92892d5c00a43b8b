"""Weighted soft labels alone of Chen et al. (2017), on blood smears."""

_base_ = "bccd_r18_r18-half.py"

model = dict(terms=dict(hint=None, roi_bounded=None, rpn_bounded=None))
