"""R-FCN R18 half teaches R18 quarter at the student's proposals (Li et al., 2017) on the digits."""

_base_ = ["../digits/rfcn_r18-quarter.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/digits/rfcn_r18-half.py",
        checkpoint="work_dirs/rfcn_r18-half/epoch_7.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            num=64,
            weight=1.0,  # the paper's lambda
        ),
    ),
)
