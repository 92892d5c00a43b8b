"""The R-FCN teacher on the digits, 2 more epochs with its map quantised (Wei et al., 2018)."""

_base_ = "../digits/rfcn_r18-half.py"

model = dict(
    neck=dict(
        _delete_=True,
        type="det_distill.models.necks.QuantisedNeck",
        inner={{_base_.model.neck}},
        step=1.0,  # ours; the paper's is not known
        signed=False,  # R-FCN's neck ends in a ReLU
    ),
)
load_from = "work_dirs/rfcn_r18-half/epoch_7.pth"  # full precision
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=2, convert_to_iter_based=True),
]
