"""Knowledge distillation for object detectors, on MMDetection 3.x."""

from det_distill.compat import mmcv_ext

__version__ = "0.1.0.dev0"

mmcv_ext.install()
