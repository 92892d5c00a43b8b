"""MMEngine reads checkpoint files with the safe loader of `checkpoints`, on both stacks.

Why: onedl-mmengine allows numpy's own rebuilders while it loads. They do not mix with those of `plain_numpy`: which of
the two answers to a name, torch leaves to the order of a set, so that resuming failed in some processes. And what the
safe loader refuses, it reads again without safety. `register_scheme` is the place MMEngine has for another loader.
"""

from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader

from det_distill.compat.checkpoints import load


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """`checkpoints.load` under the signature and the name of MMEngine's loader, which logs the name.

    `map_location` is not heeded: tensors come to the CPU, and MMEngine copies them to where the model is.
    """
    return load(Path(filename).expanduser())


def read_files_safely() -> None:
    """Make `load_from_local` the loader of every checkpoint that is a file. Idempotent."""
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
