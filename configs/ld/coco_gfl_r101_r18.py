"""GFL R101 teaches R18 where the sides of boxes lie (LD); COCO, 12 epochs, as MMDetection's configs/ld.

[code] MMDetection 3.3.0, ld_r18-gflv1-r101_fpn_1x_coco; no result of ours.
"""

_base_ = ["../coco/gfl_r18_fpn.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/"
            "gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth"
        ),
    ),
    terms=dict(
        boxes=dict(
            type="LocalisationDistillation",
            temperature=10,  # [code]
            weight=0.5,  # [code] 0.25, summed over the 2 images of a process
        ),
    ),
)
