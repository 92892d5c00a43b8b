"""A two-stage teacher for a single-stage student: Faster R-CNN R18 teaches FCOS on blood smears; 6 epochs."""

_base_ = ["../bccd/fcos_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            strides=[8, 16, 32, 64],  # the levels that both have
            adapter=dict(type="ConvAdapter", kernel=3),
            mask=dict(type="PointMask"),
            weight=0.05,  # as for the two-stage student
            schedule=dict(type="Warmup", end=50),
        ),
    ),
)
