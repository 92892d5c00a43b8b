"""Faster R-CNN C4 R101 teaches its half-width self (Wang et al., 2019); VOC 07+12. [paper] VOC07 mAP 67.4 to 71.2.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [paper] arXiv:1906.03609, [ours] a decision.
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
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="backbone",  # [code] the last map before the head
            adapter=dict(type="ConvAdapter", kernel=3, relu=True, init_std=1e-4),  # [code]
            mask=dict(type="AnchorIoUMask", psi=0.5),  # [code], [paper] best of 0 to 1
            weight=0.01,  # [code]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
    ),
)
