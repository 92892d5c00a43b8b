"""The recipe for RTMDet: S begins as the heaviest part of M, fitted to it, and imitates it near objects; COCO.

Schedule, augmentation and averaging are RTMDet-S's own. Not measured. [ours] chosen on small sets, with other nets.
"""

_base_ = "mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py"

model = dict(
    _delete_=True,
    type="Distiller",
    student={{_base_.model}},
    teacher=dict(
        config="mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py",
        checkpoint=(
            "https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_m_8xb32-300e_coco/"
            "rtmdet_m_8xb32-300e_coco_20220719_112220-229f527c.pth"
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
custom_hooks = [  # RTMDet has its own, so those of _base_/distill.py are written out
    *_base_.custom_hooks,
    dict(type="AdapterStateHook"),
    dict(type="ExactResumeHook"),
    dict(type="TeacherCheckHook"),
    dict(type="FiniteLossesHook", action="stop"),
    dict(type="DataRootHook"),
    dict(type="ReconstructionHook"),
]
