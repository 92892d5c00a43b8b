"""R-FCN R50 at 688 pixels teaches itself at 344 over scales (Li et al., 2017); VOC 07+12.

Sizes as Chen et al.'s on VOC; [paper] halves Caltech's.

[paper] CVPR 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../voc0712/rfcn_r50_344px_upsampled.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=dict(model={{_base_.model}}, scale=0.5),
    teacher=dict(
        config="configs/voc0712/rfcn_r50_688px.py",
        checkpoint="data/teachers/rfcn_r50_688px_voc0712.pth",
    ),
    terms=dict(
        mimic=dict(
            type="ProposalMimic",
            tap="neck",
            boxes="proposals",  # [quoted] of the student's RPN
            num=128,  # [ours]
            adapter=dict(type="ConvAdapter", kernel=3),  # [paper]
            weight=1.0,  # [ours] lambda, the loss being normalised
        ),
    ),
)

# The whole image, of which the student is fed a copy at its scale.
_base_.train_dataloader.dataset.dataset.datasets[0].pipeline[2].scale = (1146, 688)
_base_.train_dataloader.dataset.dataset.datasets[1].pipeline[2].scale = (1146, 688)
