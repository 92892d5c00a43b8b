"""R18 half teaches itself at half the resolution (Chen et al., 2017) on playing cards.

No terms of the RPN, whose anchors differ.
"""

_base_ = ["../cards/faster-rcnn_r18-half_fpn64_half-res.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=dict(model={{_base_.model}}, scale=0.5),
    teacher=dict(
        config="configs/cards/faster-rcnn_r18-half_fpn64_teacher.py",
        checkpoint="work_dirs/cards_teacher/epoch_36.pth",
    ),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),
        hint=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=1),
            mask=dict(type="FullMask"),
            distance="l2",
            strides=[4, 8, 16, 32],  # the teacher's 8 to 64: levels that cover the same part of the scene
            weight=0.5,  # the paper's gamma
        ),
    ),
    task_weights=dict(loss_cls=0.5),  # mu
)

# The whole image, of which the student is fed a copy at its scale.
_base_.train_dataloader.dataset.pipeline[2].scale = (256, 192)
