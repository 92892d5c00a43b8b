"""The recipe on the digits: R-FCN R18 quarter begins as the heaviest part of R-FCN R18 half; 4 epochs."""

_base_ = "../combined/digits_rfcn_r18-half_r18-quarter.py"

model = dict(
    init_cfg=dict(type="WeightSelection", channels="heaviest"),
    terms=dict(imitation=dict(adapter=dict(identity=True))),
)
