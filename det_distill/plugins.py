"""Importing this registers every class of det_distill with MMDetection: name it in `custom_imports`."""

from mmdet.registry import MODELS

from det_distill import adapters, distiller, masks, schedules
from det_distill.compat.checkpoints import allow_mmengine_types
from det_distill.compat.mmengine_files import read_safely
from det_distill.compat.whole_files import write_whole_files
from det_distill.datasets import kitti, voc_folder
from det_distill.hooks import (
    adapter_state,
    channels_last,
    checkpoint,
    data_root,
    exact_resume,
    finite_losses,
    gradient_report,
    mask_pictures,
    progress,
    reconstruction,
    stages,
    teacher_check,
)
from det_distill.metrics import fast_coco, miss_rate
from det_distill.metrics import kitti as kitti_metric
from det_distill.models import necks, res_stage, rfcn, vgg
from det_distill.quantise import Quantiser
from det_distill.terms.feature import (
    activation_boundary,
    attention,
    fsp,
    holistic,
    imitation,
    neuron_selection,
    proposals,
    selectivity,
)
from det_distill.terms.relation import darkrank, pair_wise, rkd, triplet
from det_distill.terms.response import (
    boundary,
    bounded_regression,
    localisation,
    pixel_wise,
    soft_labels,
    weighted_soft_labels,
)

__all__ = [
    "activation_boundary",
    "adapter_state",
    "adapters",
    "attention",
    "boundary",
    "bounded_regression",
    "channels_last",
    "checkpoint",
    "darkrank",
    "data_root",
    "distiller",
    "exact_resume",
    "fast_coco",
    "finite_losses",
    "fsp",
    "gradient_report",
    "holistic",
    "imitation",
    "kitti",
    "kitti_metric",
    "localisation",
    "mask_pictures",
    "masks",
    "miss_rate",
    "necks",
    "neuron_selection",
    "pair_wise",
    "pixel_wise",
    "progress",
    "proposals",
    "reconstruction",
    "res_stage",
    "rfcn",
    "rkd",
    "schedules",
    "selectivity",
    "soft_labels",
    "stages",
    "teacher_check",
    "triplet",
    "vgg",
    "voc_folder",
    "weighted_soft_labels",
]

allow_mmengine_types()
read_safely()
write_whole_files()
MODELS.register_module(module=Quantiser)  # here, for quantise.py runs without MMDetection
