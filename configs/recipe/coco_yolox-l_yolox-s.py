"""The recipe for YOLOX: S begins as the heaviest part of L, fitted to it, and imitates it near objects; COCO.

Schedule, augmentation and averaging are YOLOX-S's own. Not measured. [ours] chosen on small sets, with other nets.
"""

_base_ = "mmdet::yolox/yolox_s_8xb8-300e_coco.py"

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::yolox/yolox_l_8xb8-300e_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v2.0/yolox/yolox_l_8x8_300e_coco/"
            "yolox_l_8x8_300e_coco_20211126_140236-d3bd2b23.pth"
        ),
    ),
    init_cfg=dict(type="WeightSelection", channels="heaviest", reconstruct=dict(images=96)),
    terms=dict(
        imitation=dict(
            type="FeatureImitation",
            tap="neck",
            adapter=dict(type="ConvAdapter", kernel=3, identity=True),  # [ours]: begins as the student does
            mask=dict(type="PointMask"),  # its priors are points
            weight=0.05,  # [ours]
        ),
    ),
)
custom_imports = dict(imports=["det_distill.plugins"])
custom_hooks = [  # YOLOX has its own, so those of _base_/distill.py are written out
    *_base_.custom_hooks,
    dict(type="AdapterStateHook"),
    dict(type="ExactResumeHook"),
    dict(type="TeacherCheckHook"),
    dict(type="FiniteLossesHook", action="stop"),
    dict(type="DataRootHook"),
    dict(type="ReconstructionHook"),
]
