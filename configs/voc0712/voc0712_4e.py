"""Pascal VOC 07+12 trainval, VOC07 test, 4 epochs of 3 repeats, one image a step: shared by all configs here.

Sources, as everywhere in these configs: [code] twangnh/Distilling-Object-Detectors@c6583f3, [base] the repository that
code is laid over, jwyang/faster-rcnn.pytorch, [paper] arXiv:1906.03609, [stock] MMDetection, [ours] a decision. [code]
trains on VOC07 trainval alone; the additional VOC12 images are [ours].
"""

_base_ = ["mmdet::_base_/datasets/voc0712.py", "mmdet::_base_/default_runtime.py"]

train_dataloader = dict(batch_size=1)  # [code] README: what its learning rate is for
# [stock] pascal_voc configs: 12 passes over the images, as in [code] (6 over the images and their mirrors)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=4, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=100),  # [stock] its C4 config on VOC
    dict(type="MultiStepLR", by_epoch=True, milestones=[3], gamma=0.1),  # [stock]; [code] drops for the last 2 passes
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="SGD",
        lr=3e-3,  # [code] VGG11, one image a step; for ResNets [ours]
        momentum=0.9,  # [base]
        weight_decay=5e-4,  # [base] VGG; for ResNets [ours]
    ),
    clip_grad=dict(max_norm=10),  # [code], for teacher, student alone and distilled alike
)
auto_scale_lr = dict(enable=False, base_batch_size=1)
