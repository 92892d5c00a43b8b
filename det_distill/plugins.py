"""Importing this registers every class of det_distill with MMDetection: name it in `custom_imports`."""

from mmdet.registry import MODELS

from det_distill import adapters, distiller, masks, schedules
from det_distill.compat.checkpoints import allow_mmengine_types
from det_distill.datasets import kitti, voc_folder
from det_distill.hooks import adapter_state, exact_resume, gradient_report, mask_pictures, progress, teacher_check
from det_distill.metrics import fast_coco, miss_rate
from det_distill.metrics import kitti as kitti_metric
from det_distill.models import necks, res_stage, rfcn, vgg
from det_distill.quantise import Quantiser
from det_distill.terms import boxes, features, logits, proposals

__all__ = [
    "adapter_state",
    "adapters",
    "boxes",
    "distiller",
    "exact_resume",
    "fast_coco",
    "features",
    "gradient_report",
    "kitti",
    "kitti_metric",
    "logits",
    "mask_pictures",
    "masks",
    "miss_rate",
    "necks",
    "progress",
    "proposals",
    "res_stage",
    "rfcn",
    "schedules",
    "teacher_check",
    "vgg",
    "voc_folder",
]

allow_mmengine_types()
MODELS.register_module(module=Quantiser)  # here, for quantise.py runs without MMDetection
