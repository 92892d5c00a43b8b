"""75 frames of KITTI, fed at half their size, 624x188: 60 train, 15 val, test the same as val.

Every fifth frame is val, for the frames come without lists; it has no cyclist, so that Cyclist is NaN and no part of
the means. KITTI's own AP is meant for more objects than val has and stays low even for a perfect net (see
det_distill/metrics/kitti_ap.py): compare by kitti/mAP.
"""

_base_ = "kitti.py"

data_root = "../shared/data/kitti_tiny/"
scale = (624, 188)
backend_args = None
resize = dict(type="Resize", scale=scale, keep_ratio=True)
train_pipeline = [resize if step.type == "Resize" else step for step in _base_.train_pipeline]
test_pipeline = [resize if step.type == "Resize" else step for step in _base_.test_pipeline]
train_dataloader = dict(
    persistent_workers=False,  # fresh workers every epoch: a resumed run draws the same augmentations
    dataset=dict(data_root=data_root, ann_file="", split="train", pipeline=train_pipeline, backend_args=backend_args),
)
val_dataloader = dict(
    batch_size=2,
    persistent_workers=False,
    dataset=dict(data_root=data_root, ann_file="", split="val", pipeline=test_pipeline, backend_args=backend_args),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_dir=data_root + _base_.folders.label)
test_evaluator = val_evaluator
