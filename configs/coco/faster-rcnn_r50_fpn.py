"""MMDetection's Faster R-CNN R50 FPN 1x on COCO, its gradients clipped."""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"

optim_wrapper = dict(clip_grad=dict(max_norm=10))  # [code], for the student alone and distilled alike
