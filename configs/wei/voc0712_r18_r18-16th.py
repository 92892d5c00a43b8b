"""R18 teaches R18 1/16 by quantised features at proposals (Wei et al., 2018); VOC 07+12.

[quoted] VOC07 mAP 40.5 alone, 44.6 by mimic, 47.0 quantised; teacher about 73.

[paper] ECCV 2018, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../voc0712/faster-rcnn_r18-16th_dc5.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/wei/voc0712_r18_quantised_teacher.py",
        checkpoint="work_dirs/voc0712_r18_quantised_teacher/epoch_1.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="backbone",
            boxes="sampled",  # [ours] of the student's RPN, [quoted], those its RoI head has cut already
            num=128,  # [ours]
            adapter=dict(type="ConvAdapter", kernel=3),  # [ours], as Li et al.
            quantiser=dict(type="Quantiser", step=1.0, signed=False),  # [ours] step; [paper] unsigned
            normalise=True,  # [ours], as Li et al.; [paper] sums over a crop's elements
            weight=1.0,  # [quoted] lambda
        ),
    ),
)
