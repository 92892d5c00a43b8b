"""`mmcv._ext` is served only where nobody else offers it."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import det_distill
from det_distill.compat import kernels, mmcv_ext

ROOT = Path(det_distill.__file__).parents[1]


def python(code: str, *folders: Path) -> str:
    """What a fresh interpreter prints, with `folders` before everything else on its path."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def fake_mmcv(tmp_path: Path) -> Path:
    """A folder with a package `mmcv` that has no extension."""
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").touch()
    return tmp_path


@pytest.fixture
def compiled(fake_mmcv: Path) -> Path:
    """The same with an `_ext` of its own."""
    (fake_mmcv / "mmcv" / "_ext.py").write_text("MARK = 'the compiled one'\n")
    return fake_mmcv


def test_importing_det_distill_imports_nothing_heavy() -> None:
    heavy = {"torch", "torchvision", "numpy", "mmengine", "mmcv", "mmdet"}
    assert python(f"import sys, det_distill; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_the_finder_is_last_on_the_meta_path() -> None:
    assert python("import sys, det_distill; print(type(sys.meta_path[-1]).__name__)") == "TorchvisionOps"


def test_installing_twice_adds_one_finder(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [finder for finder in sys.meta_path if not isinstance(finder, mmcv_ext.TorchvisionOps)]
    monkeypatch.setattr(sys, "meta_path", list(others))
    mmcv_ext.install()
    mmcv_ext.install()
    assert sys.meta_path[:-1] == others
    assert isinstance(sys.meta_path[-1], mmcv_ext.TorchvisionOps)


def test_the_finder_answers_for_one_name_only() -> None:
    finder = mmcv_ext.TorchvisionOps()
    assert finder.find_spec("mmcv._ext", None) is not None
    for other in ("mmcv", "mmcv.ops", "_ext", "mmdet._ext", "mmcv._ext.nms"):
        assert finder.find_spec(other, None) is None


def test_a_compiled_extension_wins(compiled: Path) -> None:
    assert python("import det_distill, mmcv._ext; print(mmcv._ext.MARK)", compiled) == "the compiled one"


def test_without_one_the_kernels_are_served(fake_mmcv: Path) -> None:
    code = "import det_distill, importlib.util as u; print(u.find_spec('mmcv').origin, u.find_spec('mmcv._ext').origin)"
    assert python(code, fake_mmcv) == f"{fake_mmcv / 'mmcv' / '__init__.py'} {mmcv_ext.KERNELS}"


def test_compiled_mmcv_tells_the_two_apart(fake_mmcv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(fake_mmcv)])
    assert not mmcv_ext.compiled_mmcv()
    (fake_mmcv / "mmcv" / "_ext.py").touch()
    importlib.invalidate_caches()
    assert mmcv_ext.compiled_mmcv()


def test_without_any_mmcv_there_is_no_compiled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not mmcv_ext.compiled_mmcv()


def test_mmdetection_imports_in_a_fresh_interpreter() -> None:
    assert python("import det_distill, mmdet.models; print(mmdet.models.FasterRCNN.__name__)") == "FasterRCNN"


ours = pytest.mark.skipif(mmcv_ext.compiled_mmcv(), reason="a compiled mmcv is installed and wins")


@ours
@pytest.mark.parametrize("loaded", [True, False], ids=["after import", "before import"])
def test_the_module_has_a_real_spec(loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("mmcv._ext")
    if not loaded:
        monkeypatch.delitem(sys.modules, "mmcv._ext")
    spec = importlib.util.find_spec("mmcv._ext")
    assert spec is not None
    assert (spec.name, spec.origin) == ("mmcv._ext", mmcv_ext.KERNELS)
    assert spec.loader is not None
    assert module.__spec__ is not None


def test_loading_fills_a_module_with_the_kernels_and_with_errors_for_the_rest() -> None:
    spec = mmcv_ext.TorchvisionOps().find_spec("mmcv._ext", None)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {name: op for name, op in vars(module).items() if not name.startswith("__")} == kernels.OPS
    assert module.no_such_op.__qualname__ == "no_such_op"
    with pytest.raises(AttributeError, match=r"^module 'mmcv\._ext' has no attribute '__wrapped__'$"):
        module.__wrapped__  # noqa: B018


@ours
@pytest.mark.parametrize("name", kernels.OPS)
def test_every_promised_op_is_the_kernel(name: str) -> None:
    assert getattr(importlib.import_module("mmcv._ext"), name) is getattr(kernels, name)


@ours
@pytest.mark.parametrize("name", ["carafe_forward", "softmax_focal_loss_forward", "no_such_op"])
def test_any_other_op_imports_and_raises_one_clear_error_when_called(name: str) -> None:
    ext = importlib.import_module("mmcv._ext")
    assert hasattr(ext, name)
    op = getattr(ext, name)
    assert op.__name__ == name
    with pytest.raises(NotImplementedError, match=rf"'{name}' needs a compiled mmcv.*roi_align_forward.*Install"):
        op(1, key=2)


@ours
def test_an_mmcv_layer_without_a_kernel_passes_the_error_on() -> None:
    import torch
    from mmcv.ops import softmax_focal_loss

    with pytest.raises(NotImplementedError, match="softmax_focal_loss_forward"):
        softmax_focal_loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))


@ours
def test_what_python_itself_probes_is_absent() -> None:
    ext = importlib.import_module("mmcv._ext")
    assert not hasattr(ext, "__path__")
    assert not hasattr(ext, "__wrapped__")


@ours
def test_mmcv_reports_its_environment() -> None:
    from mmcv.utils import collect_env

    assert collect_env()["MMCV Compiler"] == "none (torchvision kernels)"


@pytest.mark.parametrize(("cuda", "told"), [("12.4", "12.4"), (None, "not available")])
def test_the_cuda_version_is_torchs(cuda: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert kernels.get_compiling_cuda_version() == told
    assert kernels.get_compiler_version() == "none (torchvision kernels)"
