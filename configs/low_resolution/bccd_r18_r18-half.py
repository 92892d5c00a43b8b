"""R18 teaches R18 half embeddings and soft labels (Karlekar et al., 2019), one resolution, blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
    ),
    terms=dict(  # weights: each pulls 0.3 times as hard as the task
        embedding=dict(type="ProposalMimic", tap="roi.embedding", adapter=dict(type="LinearAdapter"), weight=0.5),
        soft=dict(type="SoftLabels", head="roi", temperature=4, weight=0.1),
    ),
)
