"""R-FCN R101 teaches R50 by soft labels, bounded boxes and a hint (Chen et al., 2017); VOC 07+12.

The pair is [ours].

[paper] NIPS 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../voc0712/rfcn_r50.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/voc0712/rfcn_r101.py",
        checkpoint="data/teachers/rfcn_r101_voc0712.pth",
    ),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        hint=dict(
            type="FeatureImitation",
            tap="neck",  # [paper] the last shared map
            adapter=dict(type="ConvAdapter", kernel=1),  # [paper]
            mask=dict(type="FullMask"),
            distance="l2",  # [ours] its mean over elements
            weight=0.5,  # [quoted] gamma
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu, [ours]
)
