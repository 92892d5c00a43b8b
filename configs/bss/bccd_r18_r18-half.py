"""R18 teaches R18 half on boxes moved to its decision boundary (BSS, Heo et al., 2019), blood smears; 6 epochs."""

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
        soft=dict(
            type="SoftLabels",
            head="roi",
            temperature=3,
            weight=1 / 9,  # the paper has no factor T^2
            schedule=dict(type="Ramp", start=4, stop=1, begin=0, end=312),
        ),
        boundary=dict(
            type="BoundarySamples",
            temperature=3,
            weight=1.0,
            schedule=dict(type="Ramp", start=2, stop=0, begin=0, end=234),  # off after 75% of training
        ),
    ),
)
