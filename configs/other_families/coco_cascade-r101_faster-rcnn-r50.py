"""A cascade for a teacher: Cascade R-CNN R101 teaches Faster R-CNN R50 by its maps, its RPN and its first stage; COCO.

12 epochs. [code] twangnh/Distilling-Object-Detectors@c6583f3, [quoted] of NIPS 2017, second-hand, [ours] a decision; no
result of ours.
"""

_base_ = ["mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::cascade_rcnn/cascade-rcnn_r101_fpn_20e_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/cascade_rcnn/cascade_rcnn_r101_fpn_20e_coco/"
            "cascade_rcnn_r101_fpn_20e_coco_bbox_mAP-0.425_20200504_231812-5057dcc5.pth"
        ),
    ),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3),
            mask=dict(type="AnchorIoUMask"),
            weight=0.01,  # [code] at one level; over levels, averaged, [ours]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu, [ours]
)
