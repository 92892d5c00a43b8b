"""The teacher on VOC 07+12, one more epoch with its last map quantised (Wei et al., 2018).

[paper] ECCV 2018, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = "../voc0712/faster-rcnn_r18_dc5.py"

model = dict(
    neck=dict(
        type="det_distill.models.necks.QuantisedNeck",
        step=1.0,  # [ours]; the paper's is not known
        signed=False,  # [paper] the map is rectified
    ),
)
load_from = "data/teachers/faster-rcnn_r18_dc5_voc0712.pth"  # full precision
optim_wrapper = dict(optimizer=dict(lr=3e-4))  # [ours] a tenth
train_cfg = dict(max_epochs=1)  # [ours]
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=1, convert_to_iter_based=True),
]
