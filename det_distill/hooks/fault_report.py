"""What is said of a step that is not taken: which step, which losses, of which images, and what may help."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.runner import Runner
from torch import Tensor

from det_distill.distiller import Distiller
from det_distill.hooks.loop import by_epoch

SKIPPED = "train/skipped_steps"


def skipped_steps(runner: Runner) -> int:
    hub = runner.message_hub  # its scalars travel with checkpoints
    return int(hub.get_scalar(SKIPPED).current()) if SKIPPED in hub.log_scalars else 0


def step(runner: Runner, index: int) -> str:
    inside = f" (epoch {runner.epoch + 1}, {index + 1} of {len(runner.train_dataloader)})" if by_epoch(runner) else ""
    return f"step {runner.iter + 1} of {runner.max_iters}{inside}"


def _faulty(told: Mapping[str, Tensor]) -> dict[str, float]:
    """What is not finite; the sum only where its parts are."""
    found = {key: value.item() for key, value in told.items() if not value.isfinite()}
    return {key: value for key, value in found.items() if key != "loss"} or found


def fault(model: Distiller, told: Mapping[str, Tensor], data: Any, ranks: list[int]) -> str:
    found, (rank, world) = _faulty(told), get_dist_info()
    if not found:
        return f"losses of rank {', '.join(map(str, ranks))} are not finite, and its own error says which"
    terms = {key: model.terms[term].strength() for key in found if (term := _term(model, key))}
    each = [f"{key}={one}" + (f" at strength {terms[key]:.3g}" if key in terms else "") for key, one in found.items()]
    return (f"on rank {rank} " if world > 1 else "") + f"{', '.join(each)}; images {_images(data)}"


def _term(model: Distiller, key: str) -> str | None:
    """The term that a loss is of; None for the student's own."""
    name = key.removeprefix("loss_").split(".")[0]
    return name if name in model.terms else None


def _images(data: Any) -> str:
    paths = {sample.get("img_id"): sample.get("img_path") for sample in data["data_samples"]}
    return ", ".join(f"{one} ({path})" if path else f"{one}" for one, path in paths.items())


def remedy(model: Distiller, told: Mapping[str, Tensor]) -> str:
    """What to lower: the weights of the terms that are at fault, if the student's own losses are not."""
    names = {_term(model, key): key for key in _faulty(told)}
    terms = [f"model.terms.{name}.weight" for name in names if None not in names]
    return f"a lower {' or '.join([*terms, 'optim_wrapper.optimizer.lr'])}"


def go_back(last: str | None) -> str:
    back = f"go back to {last}" if last else "there is no checkpoint to go back to"
    return f"a gradient before overflowed: {back}, lower optim_wrapper.optimizer.lr or set optim_wrapper.clip_grad"
