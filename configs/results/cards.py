"""Cards: R18 of half width teaches one of quarter width, FPN 32, on three budgets; but for the recipe untuned.

Run by tools/results.py; scores are those of the test split.
"""

_base_ = "bccd.py"

teacher = "configs/cards/faster-rcnn_r18-half_fpn64_teacher.py"
alone = "configs/cards/faster-rcnn_r18-quarter_fpn32.py"
methods = {  # the others are the base's
    "recipe of the first channels": "configs/recipe/bccd_r18_r18-half_identity.py",
}
budgets = dict(  # short: the student's own 12 epochs
    long={"train_cfg.max_epochs": 48, "train_cfg.val_interval": 8, "param_scheduler.1.T_max": 48},
)
