"""Two averaged teachers teach R18 half by softened probabilities (Hinton et al., 2015) on blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        plain=dict(
            config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
            checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
        ),
        quantised=dict(
            config="configs/wei/bccd_r18_quantised_teacher.py",
            checkpoint="work_dirs/bccd_r18_quantised_teacher/epoch_4.pth",
        ),
    ),
    terms=dict(
        roi_soft=dict(type="SoftLabels", head="roi", temperature=4, mean="arithmetic", weight=0.1),
        rpn_soft=dict(type="SoftLabels", head="rpn", temperature=4, mean="arithmetic", weight=0.2),
    ),
)
