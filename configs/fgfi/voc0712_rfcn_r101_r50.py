"""R-FCN R101 teaches R50 near objects (Wang et al., 2019); VOC 07+12.

The pair is [ours]; [paper] has Faster R-CNN R101 teach R50, VOC07 mAP 69.1 to 72.0.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [paper] arXiv:1906.03609, [ours] a decision.
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
        imitation=dict(
            type="FeatureImitation",
            tap="neck",  # [code] the last map before the head
            adapter=dict(type="ConvAdapter", kernel=3, relu=True, init_std=1e-4),  # [code]; R-FCN's neck is rectified
            mask=dict(type="AnchorIoUMask", psi=0.5),  # [code], [paper] best of 0 to 1
            weight=0.01,  # [code]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
    ),
)
