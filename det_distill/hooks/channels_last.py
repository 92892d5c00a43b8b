"""Train with the channels of maps last in memory, as half-precision convolutions on tensor cores like them."""

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lays the weights of the model out with channels last before training; the maps follow from them.

    The teacher follows its Distiller. Values, checkpoints and names stay as they are. Under DDP, whose buckets were
    laid out before, PyTorch warns once of other strides.
    """

    priority = "NORMAL"

    def before_train(self, runner: Runner) -> None:
        runner.model.to(memory_format=torch.channels_last)
