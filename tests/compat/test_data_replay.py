"""Batches that a resumed run passes over are loaded, so that later ones are those of the uninterrupted run."""

import random

import pytest
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader, Dataset

from det_distill.compat.data_replay import load_what_is_skipped


class Drawing(Dataset):
    """Each item is its index and a number drawn from the global stream, as by a random transform."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, random.random()


class Recorder:
    """What a loop needs of a Runner; notes the batches that are trained on."""

    val_loop = None

    def __init__(self) -> None:
        self.model, self.batches = nn.Module(), []
        self.model.train_step = lambda batch, optim_wrapper: {}
        self.optim_wrapper = None

    def call_hook(self, name: str, data_batch=None, **_) -> None:
        if name == "before_train_iter":
            self.batches.append([part.tolist() for part in data_batch])


def run(start: int, load: bool) -> list:
    """The batches from iteration `start` on, of eight: more than an epoch."""
    random.seed(3)
    recorder = Recorder()
    loop = IterBasedTrainLoop(recorder, DataLoader(Drawing(), batch_size=2), max_iters=8)
    loop._iter = start
    if load:
        load_what_is_skipped(loop)
    loop.run()
    return recorder.batches


@pytest.mark.parametrize("start", [1, 2, 5])
def test_the_batches_after_are_those_of_the_uninterrupted_run(start: int) -> None:
    whole = run(0, load=False)
    assert len(whole) == 8
    assert run(start, load=True) == whole[start:]
