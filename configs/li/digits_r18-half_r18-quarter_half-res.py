"""R18 half teaches R18 quarter over scales (Li et al., 2017) on the digits."""

_base_ = ["../digits/faster-rcnn_r18-quarter_fpn32_half-res_upsampled.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=dict(model={{_base_.model}}, scale=0.5),
    teacher=dict(
        config="configs/digits/faster-rcnn_r18-half_fpn64_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18-half_fpn64_teacher/epoch_7.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            num=64,
            strides=[2, 4, 8, 16],  # the teacher's 4 to 32, the levels that RoIs are cropped from
            weight=1.0,  # the paper's lambda
        ),
    ),
)

# The whole image, of which the student is fed a copy at its scale.
_base_.train_dataloader.dataset.pipeline[2].scale = (160, 160)
