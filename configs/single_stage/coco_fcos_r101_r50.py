"""FCOS R101 teaches R50 at the points inside objects and by soft labels; COCO, 12 epochs.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [ours] a decision; no result of ours.
"""

_base_ = ["mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::fcos/fcos_r101-caffe_fpn_gn-head-1x_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r101_caffe_fpn_gn-head_1x_coco/"
            "fcos_r101_caffe_fpn_gn-head_1x_coco-0e37b982.pth"
        ),
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3),
            mask=dict(type="PointMask"),
            weight=0.01,  # [code] at one level; over levels, averaged, [ours]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
        soft=dict(
            type="SoftLabels",
            head="dense",
            temperature=1,  # [ours] sigmoids are soft as they are
            mask=dict(type="PointMask"),
            weight=1.0,  # [ours]
        ),
    ),
)
