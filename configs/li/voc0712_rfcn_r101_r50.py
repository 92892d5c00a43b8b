"""R-FCN R101 teaches R50 at the student's proposals (Li et al., 2017); VOC 07+12.

The pair is [ours]; R-FCN is the paper's.

[paper] CVPR 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../voc0712/rfcn_r50.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/voc0712/rfcn_r101.py",
        checkpoint="data/teachers/rfcn_r101_voc0712.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            boxes="proposals",  # [quoted] of the student's RPN
            num=128,  # [ours]
            adapter=dict(type="ConvAdapter", kernel=3),  # [paper]
            weight=1.0,  # [ours] lambda, the loss being normalised
        ),
    ),
)
