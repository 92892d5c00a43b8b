"""What Wang et al. (2019) compare with, on blood smears: imitation inside ground-truth boxes."""

_base_ = "bccd_r18_r18-half.py"

model = dict(terms=dict(imitation=dict(mask=dict(_delete_=True, type="GtBoxMask"))))
