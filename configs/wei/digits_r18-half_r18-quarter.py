"""R18 half teaches R18 quarter by quantised features at proposals (Wei et al., 2018) on the digits; 4 epochs."""

_base_ = ["../digits/faster-rcnn_r18-quarter_fpn32.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/wei/digits_r18-half_quantised_teacher.py",
        checkpoint="work_dirs/digits_r18-half_quantised_teacher/epoch_2.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            num=64,
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            quantiser=dict(type="Quantiser", step=1.0, signed=True),  # ours; pyramid levels are signed, of std 2
            weight=1.0,  # the paper's lambda
        ),
    ),
)
