"""MMDetection's runtime, quiet enough for small data: one log line every 20 steps, newest checkpoint kept."""

_base_ = "mmdet::_base_/default_runtime.py"

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1),
)
randomness = dict(seed=0)
