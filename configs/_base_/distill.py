"""What every distillation run has beside its student: the classes, and checkpoints that resume exactly."""

custom_imports = dict(imports=["det_distill.plugins"])
custom_hooks = [
    dict(type="AdapterStateHook"),
    dict(type="ExactResumeHook"),
    dict(type="GradientReportHook", interval=0),  # off; what each term pulls: --cfg-options custom_hooks.2.interval=50
]
