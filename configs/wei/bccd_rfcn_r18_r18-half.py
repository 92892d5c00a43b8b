"""R-FCN R18 teaches R18 half by quantised features at proposals (Wei et al., 2018) on blood smears."""

_base_ = ["../bccd/rfcn_r18-half.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/wei/bccd_rfcn_r18_quantised_teacher.py",
        checkpoint="work_dirs/bccd_rfcn_r18_quantised_teacher/epoch_4.pth",
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
