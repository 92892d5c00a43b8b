"""R-FCN R50 on Pascal VOC 07+12 at 688 pixels."""

_base_ = ["../_base_/models/rfcn_r50.py", "voc0712_4e_688px.py"]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
train_dataloader = dict(batch_size=2)  # [code] iter_size; 4 epochs are 99,000 steps, [code] takes 110,000
optim_wrapper = dict(optimizer=dict(lr=1e-3))  # [code]
auto_scale_lr = dict(base_batch_size=2)
