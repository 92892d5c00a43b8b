"""The recipe: FPN R50 half begins as the heaviest part of FPN R50, and learns of it; COCO, 12 epochs.

Not measured at this scale. [paper] arXiv:1906.03609 and NIPS 2017, [quoted] second-hand, [ours] chosen on small sets.
"""

_base_ = ["../coco/faster-rcnn_r50-half_fpn.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_1x_coco/"
            "faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth"
        ),
    ),
    init_cfg=dict(type="WeightSelection", channels="heaviest"),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3, identity=True),  # [ours]: begins as the student does
            mask=dict(
                type="AnchorIoUMask",
                psi=0.5,  # [paper]
                level_assignment="size",  # [ours], DeFeat's rule: each object marks one level
            ),
            weight=0.05,  # [ours]
            schedule=dict(type="Warmup", end=400),  # [ours]: as long as the paper leaves it out
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu, [ours]
)
