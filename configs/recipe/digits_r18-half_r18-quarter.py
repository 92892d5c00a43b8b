"""The recipe on the digits: R18 quarter begins as the heaviest part of R18 half, and learns of it; 4 epochs."""

_base_ = "../combined/digits_r18-half_r18-quarter.py"

model = dict(
    init_cfg=dict(type="WeightSelection", channels="heaviest"),
    terms=dict(imitation=dict(adapter=dict(identity=True))),
)
