"""What Wang et al. (2019) compare with, on blood smears: near-object imitation and soft labels of the RoI head."""

_base_ = "bccd_r18_r18-half.py"

model = dict(
    terms=dict(
        kd=dict(type="WeightedSoftLabels", head="roi", background_weight=1.0, weight=1.0),  # weight: ours
    )
)
