"""What a hook of distillation runs accepts as the model."""

from types import SimpleNamespace

import pytest
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from det_distill.hooks.unwrap import unwrapped


def test_a_sharded_model_is_refused_with_the_reason():
    sharded = FullyShardedDataParallel.__new__(FullyShardedDataParallel)  # __init__ wants processes
    with pytest.raises(ValueError, match=r"cannot be sharded by FSDP.*MMDistributedDataParallel"):
        unwrapped(SimpleNamespace(model=sharded))


def test_another_model_is_refused_by_name():
    with pytest.raises(ValueError, match="the model is a Linear"):
        unwrapped(SimpleNamespace(model=nn.Linear(1, 1)))
