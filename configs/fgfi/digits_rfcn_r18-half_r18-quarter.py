"""R-FCN R18 half teaches R18 quarter near objects (Wang et al., 2019) on the digits."""

_base_ = ["../digits/rfcn_r18-quarter.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/digits/rfcn_r18-half.py",
        checkpoint="work_dirs/rfcn_r18-half/epoch_7.pth",
    ),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3, relu=True),  # R-FCN's neck ends in a ReLU
            mask=dict(type="AnchorIoUMask", psi=0.5),  # the paper's
            weight=0.05,  # ours, chosen on blood smears with the pyramid
            schedule=dict(type="Warmup", end=50),  # ours; the paper's 400 steps off are too many here
        ),
    ),
)
