"""R-FCN R18 half teaches R18 quarter by quantised features at proposals (Wei et al., 2018) on the digits."""

_base_ = ["../digits/rfcn_r18-quarter.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/wei/digits_rfcn_r18-half_quantised_teacher.py",
        checkpoint="work_dirs/digits_rfcn_r18-half_quantised_teacher/epoch_2.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            num=64,
            quantiser=dict(type="Quantiser", step=1.0, signed=False),  # ours; the map is rectified
            weight=1.0,  # the paper's lambda
        ),
    ),
)
