"""Cards: R18 of half width teaches one of quarter width, FPN 32, on two budgets; methods as on blood smears, untuned.

Run by tools/results.py; scores are those of the test split.
"""

teacher = "configs/cards/faster-rcnn_r18-half_fpn64_teacher.py"
alone = "configs/cards/faster-rcnn_r18-quarter_fpn32.py"
methods = {
    "imitation": "configs/fgfi/bccd_r18_r18-half.py",
    "proposal mimic": "configs/li/bccd_r18_r18-half.py",
    "hint": "configs/chen/bccd_r18_r18-half_hint.py",
    "weighted soft labels": "configs/chen/bccd_r18_r18-half_soft-labels.py",
    "bounded boxes": "configs/chen/bccd_r18_r18-half_bounded-boxes.py",
    "soft labels": "configs/hinton/bccd_r18_r18-half.py",
    "FitNets": "configs/fitnets/bccd_r18_r18-half.py",
    "AT": "configs/at/bccd_r18_r18-half.py",
    "FSP": "configs/fsp/bccd_r18_r18-half.py",
    "NST": "configs/nst/bccd_r18_r18-half.py",
    "DarkRank": "configs/darkrank/bccd_r18_r18-half.py",
    "RKD": "configs/rkd/bccd_r18_r18-half.py",
    "AB": "configs/ab/bccd_r18_r18-half.py",
    "BSS": "configs/bss/bccd_r18_r18-half.py",
    "structured": "configs/structured/bccd_r18_r18-half.py",
    "neuron selection": "configs/mobileid/bccd_r18_r18-half.py",
    "triplets": "configs/triplet/bccd_r18_r18-half.py",
    "combined": "configs/combined/bccd_r18_r18-half.py",
    "weight selection": "configs/recipe/bccd_r18_r18-half_selection.py",
    "recipe": "configs/recipe/bccd_r18_r18-half.py",
}
budgets = dict(
    short={},  # the student's own 12 epochs
    long={"train_cfg.max_epochs": 48, "train_cfg.val_interval": 8, "param_scheduler.1.T_max": 48},
)
seeds = [0, 1, 2]
