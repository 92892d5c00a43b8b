"""BCCD: R18 FPN 128 teaches R18 of half width, FPN 64, on three budgets.

At the end of the longest the student alone improves no more. Run by tools/results.py; weights of terms
were chosen on the validation split, scores are those of the test split.
"""

teacher = "configs/bccd/faster-rcnn_r18_fpn_teacher.py"
alone = "configs/bccd/faster-rcnn_r18-half_fpn64.py"
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
    "weight selection of the first channels": "configs/recipe/bccd_r18_r18-half_selection.py",
    "weight selection": "configs/recipe/bccd_r18_r18-half_heaviest_selection.py",
    "recipe of the first channels": "configs/recipe/bccd_r18_r18-half.py",
    "recipe": "configs/recipe/bccd_r18_r18-half_heaviest.py",
    "recipe, fitted": "configs/recipe/bccd_r18_r18-half_fitted.py",
}
budgets = dict(
    one={"train_cfg.max_epochs": 1, "train_cfg.val_interval": 1, "param_scheduler.1.T_max": 1},
    short={},  # the configs' own 6 epochs
    long={"train_cfg.max_epochs": 24, "train_cfg.val_interval": 4, "param_scheduler.1.T_max": 24},
)
seeds = [0, 1, 2]
