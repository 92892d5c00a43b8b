"""For trainings in processes of their own: every rank's weights are written at the end."""

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook

import tiny

tiny.format_configs(pytest.MonkeyPatch(), by=tiny.as_it_is)


@HOOKS.register_module()
class DumpHook(Hook):
    """Of student and adapters."""

    def after_train(self, runner):
        model = runner.model.module if hasattr(runner.model, "module") else runner.model
        torch.save(dict(model.named_parameters()), f"{runner.work_dir}/rank{get_rank()}.pth")
