"""Stage 1 of 2: R18 half teaches the RPN of R18 quarter (Li et al., 2017) on the digits."""

_base_ = ["../digits/rpn_r18-quarter_fpn32.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/digits/faster-rcnn_r18-half_fpn64_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18-half_fpn64_teacher/epoch_7.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            num=64,
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            weight=1.0,  # the paper's lambda
        ),
    ),
)
