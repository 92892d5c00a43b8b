"""AdamW for detectors from scratch: short warm-up, then a cosine to zero over the 6 epochs of a short budget."""

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=6, val_interval=6)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),  # the imitation paper's
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, T_max=6, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
