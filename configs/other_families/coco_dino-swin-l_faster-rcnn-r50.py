"""A transformer for a teacher: DINO on Swin-L teaches Faster R-CNN R50 by its maps; COCO, 12 epochs.

[code] twangnh/Distilling-Object-Detectors@c6583f3, [ours] a decision; no result of ours.
"""

_base_ = ["mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v3.0/dino/dino-5scale_swin-l_8xb2-12e_coco/"
            "dino-5scale_swin-l_8xb2-12e_coco_20230228_072924-a654145f.pth"
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
    ),
)
