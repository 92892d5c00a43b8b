"""Where on a feature map the student imitates: bool (B, H, W) per level."""

from det_distill.masks.anchor_iou import AnchorIoUMask
from det_distill.masks.base import Mask, cells_on, demand_anchors
from det_distill.masks.regions import FullMask, GtBoxMask, PointMask

__all__ = ["AnchorIoUMask", "FullMask", "GtBoxMask", "Mask", "PointMask", "cells_on", "demand_anchors"]
