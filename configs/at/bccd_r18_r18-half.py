"""R18 shows R18 half where to look (attention transfer, Zagoruyko and Komodakis, 2017) on blood smears; 6 epochs."""

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
        attention=dict(type="AttentionTransfer", tap="backbone", weight=1.0),  # pulls 0.3 times as hard as the task
    ),
)
