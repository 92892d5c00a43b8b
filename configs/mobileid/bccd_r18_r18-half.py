"""R18 teaches R18 half the neurons that tell classes apart (Luo et al., 2016) on blood smears; 6 epochs."""

_base_ = ["../bccd/faster-rcnn_r18-half_fpn64.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="configs/bccd/faster-rcnn_r18_fpn_teacher.py",
        checkpoint="work_dirs/faster-rcnn_r18_fpn_teacher/epoch_36.pth",
    ),
    terms=dict(
        neurons=dict(
            type="NeuronSelection",
            budget=64,
            samples=500,
            weight=0.004,  # pulls 0.3 times as hard as the task
        ),
    ),
)
