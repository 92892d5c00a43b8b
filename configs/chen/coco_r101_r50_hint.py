"""The hint alone of Chen et al. (2017), FPN R101 to FPN R50; COCO, 12 epochs. The pair is [ours].

[paper] NIPS 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = "../fgfi/coco_r101_r50.py"

model = dict(
    terms=dict(
        imitation=None,
        hint=dict(
            type="FeatureImitation",
            tap="neck",  # [ours], where the paper has one last shared map
            adapter=dict(type="ConvAdapter", kernel=1),  # [paper]
            mask=dict(type="FullMask"),
            distance="l2",  # [ours] its mean over elements
            weight=0.5,  # [quoted] gamma
        ),
    ),
)
