"""R18 half teaches R18 quarter at half its resolution, near objects (Wang et al., 2019), on the digits."""

_base_ = ["../digits/faster-rcnn_r18-quarter_fpn32_half-res.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=dict(model={{_base_.model}}, scale=0.5),
    teacher=dict(
        config="configs/digits/faster-rcnn_r18-half_fpn64_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18-half_fpn64_teacher/epoch_7.pth",
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3),  # no ReLU: pyramid levels are signed
            mask=dict(type="AnchorIoUMask", psi=0.5),  # the paper's
            strides=[4, 8, 16, 32],  # the teacher's 8 to 64: levels that cover the same part of the scene
            weight=0.05,  # ours, chosen on blood smears with the pyramid
            schedule=dict(type="Warmup", end=50),  # ours; the paper's 400 steps off are too many here
        ),
    ),
)

# The whole image, of which the student is fed a copy at its scale.
_base_.train_dataloader.dataset.pipeline[2].scale = (160, 160)
