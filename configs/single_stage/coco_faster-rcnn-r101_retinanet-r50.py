"""A two-stage teacher for a single-stage student: Faster R-CNN R101 teaches RetinaNet R50; COCO, 12 epochs.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [ours] a decision; no result of ours.
"""

_base_ = ["mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_1x_coco/"
            "faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth"
        ),
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3),
            mask=dict(type="AnchorIoUMask"),
            strides=[8, 16, 32, 64],  # the levels that both have
            weight=0.01,  # [code] at one level; over levels, averaged, [ours]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
    ),
)
