"""Several processes on a machine without an accelerator, where MMEngine's own launcher asks for CUDA."""

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device


def join(cfg: Config) -> None:
    """Join the processes that torchrun started, by gloo on CPUs; with an accelerator that is left to MMEngine."""
    if cfg.get("launcher") == "pytorch" and get_device() == "cpu" and not dist.is_initialized():
        dist.init_process_group("gloo")
        wrapper = dict(broadcast_buffers=False, find_unused_parameters=cfg.get("find_unused_parameters", False))
        cfg.model_wrapper_cfg = wrapper | dict(cfg.get("model_wrapper_cfg") or {}, device_ids=None)
