"""What every distillation run has beside its student: the classes, checkpoints that resume, a look at the teacher."""

custom_imports = dict(imports=["det_distill.plugins"])
custom_hooks = [
    dict(type="AdapterStateHook"),
    dict(type="ExactResumeHook"),
    dict(type="GradientReportHook", interval=0),  # off; what each term pulls: --cfg-options custom_hooks.2.interval=50
    dict(type="TeacherCheckHook"),  # stops before the first step if the teacher's mAP on 8 images is next to nothing
    dict(type="StagesHook"),  # leads through model.stages; nothing to do without
    dict(type="FiniteLossesHook", action="stop"),  # before a step whose losses are nan or inf; or "skip" it
    dict(type="DataRootHook"),  # before an image that an annotation file names outside data_root
    dict(type="ReconstructionHook"),  # does init_cfg.reconstruct, before the first step; nothing to do without
]
