"""R18 shows R18 half which neurons fire (AB, Heo et al., 2019), then the task alone, on blood smears; 1 + 5 epochs."""

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
        boundary=dict(type="ActivationBoundary", tap="backbone.preactivation", margin=1.0, weight=0.003),  # the code's
    ),
    stages=[
        dict(
            until=1,
            terms=["boundary"],
            task_loss=False,
            train=["backbone"],
            param_scheduler=[dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20)],
        ),
        dict(
            terms=[],
            param_scheduler=[
                dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
                dict(type="CosineAnnealingLR", by_epoch=True, T_max=5, convert_to_iter_based=True),
            ],
        ),
    ],
)
