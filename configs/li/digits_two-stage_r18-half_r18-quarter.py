"""Stage 2 of 2: the RPN of stage 1 gets a RoI head, which learns scores and boxes too (Li et al., 2017)."""

_base_ = ["../digits/faster-rcnn_r18-quarter_fpn32.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/digits/faster-rcnn_r18-half_fpn64_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18-half_fpn64_teacher/epoch_7.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            num=64,
            strides=[4, 8, 16, 32],  # the levels that RoIs are cropped from
            weight=1.0,  # the paper's lambda
        ),
        scores=dict(type="ProposalMimic", tap="roi.logits", boxes="sampled", weight=1.0),  # ours
        boxes=dict(type="ProposalMimic", tap="roi.deltas", boxes="sampled", weight=1.0),  # ours
    ),
)
load_from = "work_dirs/digits_rpn_r18-half_r18-quarter/epoch_4.pth"
