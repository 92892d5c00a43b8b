"""FPN R50 teaches its half-width self near objects (Wang et al., 2019); COCO, 12 epochs. [paper] AP 31.2 to 34.8.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [paper] arXiv:1906.03609, [ours] a decision.
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
        imitation=dict(
            type="FeatureImitation",
            tap="neck",  # the author, in the issues of [code]: on the pyramid
            adapter=dict(type="ConvAdapter", kernel=3, relu=False, init_std=1e-4),  # [code]; no ReLU: [ours]
            mask=dict(
                type="AnchorIoUMask",
                psi=0.5,  # [code]
                level_assignment="size",  # [ours], DeFeat's rule: each object marks one level
            ),
            weight=0.01,  # [code] at one level; over levels, averaged, [ours]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
    ),
)
