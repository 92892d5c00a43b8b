"""R-FCN R18 teaches R18 half at the student's proposals (Li et al., 2017) on blood smears."""

_base_ = ["../bccd/rfcn_r18-half.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/rfcn_r18_teacher.py",
        checkpoint="work_dirs/rfcn_r18_teacher/epoch_36.pth",
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
