"""R18 half teaches R18 quarter at the student's proposals (Li et al., 2017) on the digits; 4 epochs."""

_base_ = ["../digits/faster-rcnn_r18-quarter_fpn32.py", "../_base_/distill.py"]

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
