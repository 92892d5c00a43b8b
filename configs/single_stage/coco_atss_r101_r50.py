"""ATSS R101 teaches R50 near objects and by soft labels; COCO, 12 epochs.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [ours] a decision; no result of ours.
"""

_base_ = ["mmdet::atss/atss_r50_fpn_1x_coco.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::atss/atss_r101_fpn_1x_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/atss/atss_r101_fpn_1x_coco/"
            "atss_r101_fpn_1x_20200825-dfcadd6f.pth"
        ),
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3),
            mask=dict(type="AnchorIoUMask"),
            weight=0.01,  # [code] at one level; over levels, averaged, [ours]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
        soft=dict(
            type="SoftLabels",
            head="dense",
            temperature=1,  # [ours] sigmoids are soft as they are
            mask=dict(type="AnchorIoUMask"),
            weight=1.0,  # [ours]
        ),
    ),
)
