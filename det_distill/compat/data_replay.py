"""An iteration-based run that resumes loads again what it has seen, on both stacks.

Why: MMEngine loads the batches before the checkpoint and drops them. onedl-mmengine passes over their indices alone,
so nothing is drawn from the random streams that their transforms drew from: the run goes on with other images.
"""

from typing import Any

from mmengine.runner import IterBasedTrainLoop


def load_what_is_skipped(loop: Any) -> None:
    """Have an `IterBasedTrainLoop` pass over batches by loading them; MMEngine's own does. Other loops skip none."""
    if not isinstance(loop, IterBasedTrainLoop):
        return
    batches = loop.dataloader_iterator

    def skip_iter(count: int) -> None:
        for _ in range(count):
            next(batches)

    batches.skip_iter = skip_iter
