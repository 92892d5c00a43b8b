"""Pascal VOC 2012 alone: train, seen three times an epoch, and val, judged by the area under the curve."""

_base_ = "mmdet::_base_/datasets/voc0712.py"

voc12 = {**_base_.train_dataloader.dataset.dataset.datasets[1], "ann_file": "VOC2012/ImageSets/Main/train.txt"}
voc12_val = dict(ann_file="VOC2012/ImageSets/Main/val.txt", data_prefix=dict(sub_data_root="VOC2012/"))

train_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **voc12)))
val_dataloader = dict(dataset=voc12_val)
test_dataloader = dict(dataset=voc12_val)
val_evaluator = dict(eval_mode="area")
test_evaluator = val_evaluator
