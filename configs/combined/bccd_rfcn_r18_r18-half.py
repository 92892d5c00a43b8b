"""R-FCN R18 teaches R18 half by soft labels, bounded boxes and near-object imitation on blood smears."""

_base_ = ["../bccd/rfcn_r18-half.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/rfcn_r18_teacher.py",
        checkpoint="work_dirs/rfcn_r18_teacher/epoch_36.pth",
    ),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3, relu=True),  # R-FCN's neck ends in a ReLU
            mask=dict(type="AnchorIoUMask", psi=0.5),  # the paper's
            weight=0.05,  # ours, chosen on blood smears with the pyramid
            schedule=dict(type="Warmup", end=50),  # ours; the paper's 400 steps off are too many here
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu
)
