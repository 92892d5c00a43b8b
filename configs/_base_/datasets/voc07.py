"""Pascal VOC 2007 alone: trainval, seen three times an epoch, and test, judged at 11 points."""

_base_ = "mmdet::_base_/datasets/voc0712.py"

voc07 = _base_.train_dataloader.dataset.dataset.datasets[0]
train_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **voc07)))
