"""The same at 688 pixels on the short side, the teacher's resolution in Chen et al. (2017); the long side is [ours]."""

_base_ = "voc0712_4e.py"

scale = (1146, 688)
_base_.train_dataloader.dataset.dataset.datasets[0].pipeline[2].scale = scale
_base_.train_dataloader.dataset.dataset.datasets[1].pipeline[2].scale = scale
_base_.val_dataloader.dataset.pipeline[1].scale = scale
_base_.test_dataloader.dataset.pipeline[1].scale = scale
