"""FPN R50 teaches its half-width self at the student's proposals (Li et al., 2017); KITTI.

The pair is [ours].

[paper] CVPR 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../kitti/faster-rcnn_r50-half_fpn.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/kitti/faster-rcnn_r50_fpn.py",
        checkpoint="data/teachers/faster-rcnn_r50_fpn_kitti.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            boxes="sampled",  # [ours] of the student's RPN, [quoted], those its RoI head has cut already
            num=128,  # [ours]
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            adapter=dict(type="ConvAdapter", kernel=3),  # [paper]
            weight=1.0,  # [ours] lambda, the loss being normalised
        ),
    ),
)
