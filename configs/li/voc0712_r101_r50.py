"""Faster R-CNN C4 R101 teaches R50 at the student's proposals (Li et al., 2017); VOC 07+12.

The pair is [ours].

[paper] CVPR 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../voc0712/faster-rcnn_r50_c4.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/voc0712/faster-rcnn_r101_c4.py",
        checkpoint="data/teachers/faster-rcnn_r101_c4_voc0712.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="backbone",
            boxes="proposals",  # [quoted] of the student's RPN
            num=128,  # [ours]
            adapter=dict(type="ConvAdapter", kernel=3),  # [paper]
            weight=1.0,  # [ours] lambda, the loss being normalised
        ),
    ),
)
