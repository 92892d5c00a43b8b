"""The recipe: Faster R-CNN C4 R101 half begins as the heaviest part of R101, and learns of it; VOC 07+12.

Not measured at this scale. [paper] arXiv:1906.03609 and NIPS 2017, [quoted] second-hand, [ours] chosen on small sets.
"""

_base_ = ["../voc0712/faster-rcnn_r101-half_c4.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/voc0712/faster-rcnn_r101_c4.py",
        checkpoint="data/teachers/faster-rcnn_r101_c4_voc0712.pth",
    ),
    init_cfg=dict(type="WeightSelection", channels="heaviest"),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        imitation=dict(
            type="FeatureImitation",
            tap="backbone",
            adapter=dict(type="ConvAdapter", kernel=3, relu=True, identity=True),  # [ours]: begins as the student does
            mask=dict(type="AnchorIoUMask", psi=0.5),  # [paper]
            weight=0.05,  # [ours]
            schedule=dict(type="Warmup", end=400),  # [ours]: as long as the paper leaves it out
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu, [ours]
)
