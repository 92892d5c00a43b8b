"""R18 teaches R18 half how boxes rank by likeness (DarkRank, Chen et al., 2018) on blood smears; 6 epochs."""

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
        rank=dict(
            type="DarkRank", kind="hard", tap="roi.embedding", weight=0.17
        ),  # pulls 0.3 times as hard as the task
    ),
)
