"""FPN R101 teaches FPN R50 at the student's proposals (Li et al., 2017); COCO, 12 epochs. The pair is [ours].

[paper] CVPR 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = "../fgfi/coco_r101_r50.py"

model = dict(
    terms=dict(
        imitation=None,
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            boxes="proposals",  # [quoted] of the student's RPN
            num=128,  # [ours]
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            adapter=dict(type="ConvAdapter", kernel=3),  # [paper]
            weight=1.0,  # [ours] lambda, the loss being normalised
        ),
    ),
)
