"""R18 quarter begins as a part of R18 half, adapters too, and learns of it as in configs/combined; cards, 12 epochs."""

_base_ = ["../cards/faster-rcnn_r18-quarter_fpn32.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/cards/faster-rcnn_r18-half_fpn64_teacher.py",
        checkpoint="work_dirs/cards_teacher/epoch_36.pth",
    ),
    init_cfg=dict(type="WeightSelection"),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3, identity=True),
            mask=dict(type="AnchorIoUMask", psi=0.5),
            weight=0.05,
            schedule=dict(type="Warmup", end=50),
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu
)
