"""R18 shows R18 half how features flow (FSP, Yim et al., 2017), then the task alone, on blood smears; 1 + 5 epochs."""

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
        flow=dict(
            type="FlowOfSolution",
            tap="backbone",
            adapter=dict(type="ConvAdapter", kernel=1),  # the student is half as wide
            weight=0.001,
        ),
    ),
    stages=[
        dict(
            until=1,
            terms=["flow"],
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
