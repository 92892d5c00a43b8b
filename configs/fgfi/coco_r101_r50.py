"""FPN R101 teaches FPN R50 near objects (Wang et al., 2019); COCO, 12 epochs. The pair is [ours].

[code] twangnh/Distilling-Object-Detectors@c6583f3, [paper] arXiv:1906.03609, [ours] a decision.
"""

_base_ = ["mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py",
        checkpoint="data/teachers/faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth",
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3),  # [code]; no ReLU: pyramid levels are signed
            mask=dict(type="AnchorIoUMask", psi=0.5),  # [code], [paper] best of 0 to 1
            weight=0.01,  # [code]
            schedule=dict(type="Window", begin=400),  # [code] off for the first 400 iterations
        ),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=10))  # [code]
