"""R18 teaches R18 half by a hint, then by soft labels (FitNets, Romero et al., 2015) on blood smears; 1 + 5 epochs."""

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
        hint=dict(
            type="FeatureImitation",
            tap="backbone",
            strides=[16],  # the middle layer
            mask=dict(type="FullMask"),
            distance="cell",  # half the squared gap, summed over channels
            adapter=dict(type="ConvAdapter", kernel=1),
            weight=1.0,
        ),
        soft=dict(
            type="SoftLabels",
            head="roi",
            temperature=3,  # the paper's
            weight=0.1,
            schedule=dict(type="Ramp", start=4, stop=1, begin=1, end=6, by_epoch=True),  # the paper's lambda
        ),
    ),
    stages=[
        dict(
            until=1,
            terms=["hint"],
            task_loss=False,
            train=["backbone"],
            param_scheduler=[dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20)],
        ),
        dict(
            terms=["soft"],
            param_scheduler=[
                dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
                dict(type="CosineAnnealingLR", by_epoch=True, T_max=5, convert_to_iter_based=True),
            ],
        ),
    ],
)
