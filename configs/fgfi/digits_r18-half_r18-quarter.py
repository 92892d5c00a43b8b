"""R18 half teaches R18 quarter near objects (Wang et al., 2019) on the digits; the student's own 4 epochs."""

_base_ = ["../digits/faster-rcnn_r18-quarter_fpn32.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
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
            weight=0.05,  # ours, better on val than the paper's 0.01, whose maps have eight times the channels
            schedule=dict(type="Warmup", end=50),  # ours; the paper's 400 steps off would be all of this run
        ),
    ),
)
