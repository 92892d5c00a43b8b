"""R18 teaches R18 half at the student's proposals (Li et al., 2017) on blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            boxes="sampled",  # ours: of the student's proposals those that its RoI head has cut already
            num=32,
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            weight=1.0,  # the paper's lambda
        ),
    ),
)
