"""Serve `mmcv._ext` from torchvision's kernels where no compiled one is installed.

Why: MMDetection imports `mmcv.ops`, whose C++ extension takes a compiler and twenty minutes to build
for each torch. torchvision ships the same kernels, built. A finder placed **last** on `sys.meta_path`
offers them under the name MMDetection asks for; a compiled mmcv is found first and wins.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "mmcv._ext"
KERNELS = "det_distill.compat.kernels"


def unavailable(name: str) -> Callable[..., Any]:
    """A stand-in for an op that torchvision lacks: it imports, and raises when called."""

    def op(*_args: Any, **_kwargs: Any) -> Any:
        kernels = importlib.import_module(KERNELS)
        raise NotImplementedError(
            f"mmcv op '{name}' needs a compiled mmcv; this environment has mmcv-lite and torchvision's "
            f"kernels, which offer {', '.join(kernels.OPS)}. Install a compiled mmcv, or choose a model "
            "without this op."
        )

    op.__name__ = op.__qualname__ = name
    return op


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        kernels = importlib.import_module(KERNELS)
        vars(module).update(kernels.OPS)

        def missing(name: str) -> Callable[..., Any]:
            if name.startswith("__"):  # what Python itself probes is absent, not an op
                raise AttributeError(f"module '{NAME}' has no attribute '{name}'")
            return unavailable(name)

        vars(module)["__getattr__"] = missing


class TorchvisionOps(MetaPathFinder):
    """Finds `mmcv._ext` when nobody before it did."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME:
            return None
        return ModuleSpec(fullname, _Loader(), origin=KERNELS)


def install() -> None:
    """Append the finder, once."""
    if not any(isinstance(finder, TorchvisionOps) for finder in sys.meta_path):
        sys.meta_path.append(TorchvisionOps())


def compiled_mmcv() -> bool:
    """Whether a compiled `mmcv._ext` is on the path, so that the kernels here stay unused."""
    mmcv = PathFinder.find_spec("mmcv")
    return bool(mmcv and PathFinder.find_spec(NAME, mmcv.submodule_search_locations))
