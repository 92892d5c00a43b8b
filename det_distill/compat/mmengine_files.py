"""MMEngine reads checkpoints with the safe loader of `checkpoints`, on both stacks, from files and from addresses.

Why: torch's hub, by which it loads addresses and so the names of every model zoo, turns the safe loader off.
onedl-mmengine allows numpy's own rebuilders while it loads a file. They do not mix with those of `plain_numpy`: which
of the two answers to a name, torch leaves to the order of a set, so that resuming failed in some processes. And what
the safe loader refuses, it reads again without safety. `register_scheme` is the place MMEngine has for another loader;
for the hub's there is none.
"""

from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from det_distill.compat.checkpoints import load


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """`checkpoints.load` under the signature and the name of MMEngine's loader, which logs the name.

    `map_location` is not heeded: tensors come to the CPU, and MMEngine copies them to where the model is.
    """
    return load(Path(filename).expanduser())


def load_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> Any:
    """`checkpoints.load` of what is at `url`, kept in the folder and under the name of torch's hub.

    Raises:
        ConnectionError: It cannot be fetched.
        ValueError: It is truncated or no checkpoint, or holds a class that is not allowed.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir(), "checkpoints"))
    file = folder / Path(urlparse(url).path).name
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), progress=progress)
        except URLError as error:
            raise ConnectionError(f"checkpoint {url} was not fetched: {error}; {file} would be used instead") from error
    return load(file)


def read_safely() -> None:
    """Make these the loaders of every checkpoint that is a file or behind an address. Idempotent."""
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
    mmengine_checkpoint.load_url = load_url


def read(source: str) -> Any:
    """A checkpoint by any name MMEngine knows: a file, `https://...`, `torchvision://...`, `open-mmlab://...`.

    Raises:
        FileNotFoundError: No such file; names the nearest one.
        ConnectionError: It cannot be fetched.
        ValueError: It is truncated or no checkpoint, or holds a class that is not allowed.
    """
    read_safely()
    return CheckpointLoader.load_checkpoint(source, map_location="cpu")
