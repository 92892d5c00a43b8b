"""R18 teaches R18 half distances and angles among boxes (RKD, Park et al., 2019) on blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
    ),
    terms=dict(  # weights: each pulls 0.3 times as hard as the task; the paper's are 25 and 50
        distance=dict(type="DistanceRelation", tap="roi.embedding", weight=1.5),
        angle=dict(type="AngleRelation", tap="roi.embedding", weight=3.0),
    ),
)
