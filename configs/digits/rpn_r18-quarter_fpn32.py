"""The RPN of the digits student alone: MMDetection's `RPN` of the same parts; average recall instead of AP."""

_base_ = "faster-rcnn_r18-quarter_fpn32.py"

model = dict(
    _delete_=True,
    type="RPN",
    data_preprocessor={{_base_.model.data_preprocessor}},
    backbone={{_base_.model.backbone}},
    neck={{_base_.model.neck}},
    rpn_head={{_base_.model.rpn_head}},
    train_cfg=dict(rpn={{_base_.model.train_cfg.rpn}}),
    test_cfg=dict(rpn={{_base_.model.test_cfg.rpn}}),
)
val_evaluator = dict(metric="proposal")
test_evaluator = val_evaluator
