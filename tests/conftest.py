"""What holds for every test: `mmdet` finds its op kernels, and types are looked up where MMDetection's tools do."""

import pytest

import det_distill  # noqa: F401

# isort: split
import gc
import os
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, settings
from mmengine.config import utils
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from yapf.yapflib import yapf_api

import tiny

# A busy machine is no finding: nothing here fails for being slow.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(  # of `make mutants`
    "mutants", settings.get_profile("any machine"), max_examples=10, derandomize=True, database=None
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "any machine"))


@pytest.fixture(autouse=True)
def no_runner_before():
    """A Runner of an earlier test leaves its scope and its step count behind, for fixtures of modules too."""
    MessageHub.get_instance(f"test-{uuid.uuid4()}")
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield
    MessageHub.get_instance(f"test-{uuid.uuid4()}")


@pytest.fixture(autouse=True)
def no_rest_between_epochs(monkeypatch: pytest.MonkeyPatch):
    """MMEngine's iteration-based loop sleeps for two seconds whenever its data begin anew."""
    monkeypatch.setattr("mmengine.runner.loops.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture(autouse=True, scope="session")
def formatter() -> Iterator[Callable[..., Any]]:
    """The real one of configs' text, which every checkpoint holds; meanwhile that is left as it is."""
    real = yapf_api.FormatCode
    with pytest.MonkeyPatch.context() as patch:
        tiny.format_configs(patch, by=tiny.as_it_is)
        yield real


@pytest.fixture(autouse=True, scope="session")
def read_once() -> Iterator[None]:
    """MMEngine reads MMDetection's hundred metafiles anew for every `mmdet::` name: half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "load", cache(utils.load))
        yield


@pytest.fixture(autouse=True, scope="session")
def imports_are_no_garbage():
    """Every data set MMEngine builds collects garbage: half a second among all that is imported."""
    gc.freeze()
