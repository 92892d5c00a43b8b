"""Stock detectors of other families, as small as they go."""

from typing import Any

from mmengine import ConfigDict
from mmengine.hub import get_config

import tiny


def cascade(width: int = 8, fpn: int = 16, classes: int = 3) -> ConfigDict:
    """Cascade R-CNN: three stages, each on the boxes of the one before."""
    like = tiny.faster_rcnn(width, fpn, classes)
    model = get_config("mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py").model
    model.update(backbone=like.backbone, neck=like.neck)
    model.rpn_head.update(in_channels=fpn, feat_channels=fpn)
    model.roi_head.bbox_roi_extractor.out_channels = fpn
    for head in model.roi_head.bbox_head:
        head.update(in_channels=fpn, fc_out_channels=32, num_classes=classes)
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
    return model


def htc(width: int = 8, fpn: int = 16, classes: int = 3) -> ConfigDict:
    """HTC: a cascade that adds what a head of the whole scene sees to each crop. Of boxes alone."""
    like = cascade(width, fpn, classes)
    model = get_config("mmdet::htc/htc_r50_fpn_1x_coco.py").model
    model.update(backbone=like.backbone, neck=like.neck, rpn_head=like.rpn_head)
    for key in ("bbox_roi_extractor", "bbox_head"):
        model.roi_head[key] = like.roi_head[key]
    for key in ("mask_roi_extractor", "mask_head"):
        del model.roi_head[key]
    model.roi_head.semantic_roi_extractor.out_channels = fpn
    model.roi_head.semantic_head.update(in_channels=fpn, conv_out_channels=fpn, num_classes=classes)
    return model


def deformable_detr(width: int = 8, channels: int = 32, classes: int = 3) -> ConfigDict:
    """Deformable DETR: queries look at the neck's maps, no cell is judged."""
    model = get_config("mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py").model
    model.update(num_queries=10, backbone=dict(tiny.faster_rcnn(width).backbone, out_indices=(1, 2, 3)))
    model.neck.update(in_channels=[2 * width, 4 * width, 8 * width], out_channels=channels)
    model.neck.norm_cfg.num_groups = 4
    model.positional_encoding.num_feats = channels // 2
    for coder, attentions in ((model.encoder, ["self_attn_cfg"]), (model.decoder, ["self_attn_cfg", "cross_attn_cfg"])):
        coder.num_layers = 1
        for attention in attentions:
            coder.layer_cfg[attention].embed_dims = channels
        coder.layer_cfg.ffn_cfg.update(embed_dims=channels, feedforward_channels=2 * channels)
    model.bbox_head.update(embed_dims=channels, num_classes=classes)
    model.test_cfg.max_per_img = 10
    return model


def yolox(width: int = 8, classes: int = 3) -> ConfigDict:
    """YOLOX: points on a grid, each with a third map of how sure it is of an object."""
    model = get_config("mmdet::yolox/yolox_tiny_8xb8-300e_coco.py").model
    model.backbone.widen_factor = width / 64
    model.neck.update(in_channels=[4 * width, 8 * width, 16 * width], out_channels=4 * width)
    model.bbox_head.update(num_classes=classes, in_channels=4 * width, feat_channels=4 * width)
    model.data_preprocessor.batch_augments = None
    return model


def fast_rcnn(width: int = 8, fpn: int = 16, classes: int = 3) -> ConfigDict:
    """Fast R-CNN: boxes come with the images, there is no RPN."""
    model: Any = tiny.faster_rcnn(width, fpn, classes)
    model.type = "FastRCNN"
    del model["rpn_head"], model["train_cfg"]["rpn"], model["train_cfg"]["rpn_proposal"], model["test_cfg"]["rpn"]
    return model


ALL = dict(cascade=cascade, deformable_detr=deformable_detr, yolox=yolox)
