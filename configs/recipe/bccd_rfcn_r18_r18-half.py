"""The recipe on blood smears: R-FCN R18 half begins as the heaviest part of R-FCN R18, and learns of it."""

_base_ = "../combined/bccd_rfcn_r18_r18-half.py"

model = dict(
    init_cfg=dict(type="WeightSelection", channels="heaviest"),
    terms=dict(imitation=dict(adapter=dict(identity=True))),
)
