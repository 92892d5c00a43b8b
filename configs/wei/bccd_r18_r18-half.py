"""R18 teaches R18 half by quantised features at proposals (Wei et al., 2018) on blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/wei/bccd_r18_quantised_teacher.py",
        checkpoint="work_dirs/bccd_r18_quantised_teacher/epoch_4.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            boxes="sampled",  # ours: of the student's proposals those that its RoI head has cut already
            num=64,
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            quantiser=dict(type="Quantiser", step=1.0, signed=True),  # ours; pyramid levels are signed, of std 2
            weight=1.0,  # the paper's lambda
        ),
    ),
)
