"""R18 teaches R18 half scores, affinities, whole maps (structured, Liu et al., 2019) on blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
    ),
    terms=dict(  # weights: each pulls 0.3 times as hard as the task
        pixel=dict(type="PixelWise", tap="rpn.logits", weight=0.3),
        pair=dict(type="PairWise", tap="neck", scale=0.125, weight=5.0),
        holistic=dict(type="Holistic", tap="rpn.logits", weight=0.002),
    ),
)
