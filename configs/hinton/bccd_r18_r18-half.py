"""R18 teaches R18 half by softened class probabilities (Hinton et al., 2015) on blood smears; 6 epochs."""

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
        roi_soft=dict(type="SoftLabels", head="roi", temperature=4, weight=0.1),  # pulls 0.3 times as hard as the task
        rpn_soft=dict(type="SoftLabels", head="rpn", temperature=4, weight=0.2),
    ),
)
