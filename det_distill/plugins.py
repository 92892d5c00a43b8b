"""Importing this registers every class of det_distill with MMDetection: name it in `custom_imports`."""

from det_distill import adapters, distiller, masks, schedules
from det_distill.compat.checkpoints import allow_mmengine_types
from det_distill.hooks import adapter_state, exact_resume, progress
from det_distill.models import res_stage, vgg
from det_distill.terms import features

__all__ = [
    "adapter_state",
    "adapters",
    "distiller",
    "exact_resume",
    "features",
    "masks",
    "progress",
    "res_stage",
    "schedules",
    "vgg",
]

allow_mmengine_types()
