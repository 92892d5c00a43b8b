"""BCCD: a two-stage teacher, Faster R-CNN R18, and a single-stage student, RetinaNet on R18 of half width.

Run by tools/results.py; scores are those of the test split.
"""

teacher = "configs/bccd/faster-rcnn_r18_fpn_teacher.py"
alone = "configs/bccd/retinanet_r18-half_fpn64.py"
methods = {
    "imitation": "configs/single_stage/bccd_faster-rcnn-r18_retinanet-r18-half.py",
    "recipe, fitted": "configs/recipe/bccd_faster-rcnn-r18_retinanet-r18-half.py",
}
budgets = dict(
    short={},  # the configs' own 6 epochs
    long={"train_cfg.max_epochs": 24, "train_cfg.val_interval": 4, "param_scheduler.1.T_max": 24},
)
seeds = [0, 1, 2]
