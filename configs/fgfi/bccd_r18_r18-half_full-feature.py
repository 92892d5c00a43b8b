"""What Wang et al. (2019) compare with, on blood smears: full-feature imitation, every cell of every level."""

_base_ = "bccd_r18_r18-half.py"

model = dict(terms=dict(imitation=dict(mask=dict(_delete_=True, type="FullMask"))))
