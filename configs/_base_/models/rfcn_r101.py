"""R-FCN on ResNet-101 (Dai et al., 2016): a diff to MMDetection's Faster R-CNN on a dilated last stage.

Sources, as everywhere in R-FCN's configs: [paper] arXiv:1605.06409, [code] the authors' YuwenXiong/py-R-FCN@86ed858,
[stock] MMDetection, [ours] a decision. RPN and RoI head share the neck's map [ours]; in [paper] and [code] the RPN sits
on res4. Both are trained jointly [code]; [paper] alternates.

Hard example mining is one option: --cfg-options model.train_cfg.rcnn.sampler.type=OHEMSampler
"""

_base_ = "mmdet::_base_/models/faster-rcnn_r50-caffe-dc5.py"

proposals = dict(nms_pre=6000, max_per_img=300)  # [code] 6000, [paper] 300 in training and test
model = dict(
    # Named by path, R-FCN is found by stock tools too, with no custom_imports; its parts register with it.
    type="det_distill.models.rfcn.RFCN",
    backbone=dict(
        depth=101,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet101_caffe"),
    ),
    neck=dict(type="ChannelMapper", in_channels=[2048], kernel_size=1, out_channels=1024),  # [paper]; [code] ReLU
    rpn_head=dict(
        in_channels=1024,
        feat_channels=512,  # [code]
        anchor_generator=dict(scales=[8, 16, 32]),  # [code] on VOC, [paper] as Faster R-CNN
    ),
    roi_head=dict(
        type="RFCNRoIHead",
        bbox_roi_extractor=dict(
            _delete_=True,
            type="PSRoIExtractor",
            roi_layer=dict(type="PSRoIPool", output_size=7),  # [paper]
            in_channels=1024,
            featmap_strides=[16],
        ),
        bbox_head=dict(_delete_=True, type="PSBBoxHead", num_classes=80),  # [paper] class-agnostic, smooth L1
    ),
    train_cfg=dict(rpn_proposal=proposals, rcnn=dict(sampler=dict(num=128))),  # [paper]
    test_cfg=dict(rpn=proposals, rcnn=dict(nms=dict(iou_threshold=0.3))),  # [paper]
)
