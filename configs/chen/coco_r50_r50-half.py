"""FPN R50 teaches its half-width self by soft labels, bounded boxes and a hint (Chen et al., 2017); COCO.

The pair is [ours]; [paper] VGG16 to VGGM: AP 16.1 to 17.3.

[paper] NIPS 2017, [quoted] the paper second-hand, [ours] a decision.
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
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        rpn_soft=dict(type="WeightedSoftLabels", head="rpn", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        rpn_bounded=dict(type="BoundedRegression", head="rpn", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        hint=dict(
            type="FeatureImitation",
            tap="neck",  # [ours], where the paper has one last shared map
            adapter=dict(type="ConvAdapter", kernel=1),  # [paper]
            mask=dict(type="FullMask"),
            distance="l2",  # [ours] its mean over elements
            weight=0.5,  # [quoted] gamma
        ),
    ),
    task_weights=dict(loss_cls=0.5, loss_rpn_cls=0.5),  # mu, [ours]
)
