"""How a run counts."""

from mmengine.runner import EpochBasedTrainLoop, Runner


def by_epoch(runner: Runner) -> bool:
    """Whether its train loop counts epochs, or else iterations."""
    return isinstance(runner.train_loop, EpochBasedTrainLoop)
