"""What pyproject declares and what `make test-stack` installs are the same, at both ends of every range."""

import os
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import det_distill

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(det_distill.__file__).parents[1]
STACKS = {"openmmlab": "openmmlab", "onedl": "onedl", "oldest": "openmmlab"}  # lock: the extra it is for
PYTHONS = ("3.10", "3.11", "3.12")


def here(requirement: Requirement, python: str) -> bool:
    """Whether a line counts on Linux with that Python."""
    system = dict(python_version=python, python_full_version=f"{python}.0", sys_platform="linux")
    system |= dict(platform_machine="x86_64", platform_python_implementation="CPython", extra="")
    return requirement.marker is None or requirement.marker.evaluate(system)


def declared(extra: str, python: str) -> dict[str, Requirement]:
    """What `pip install -e .[extra,dev]` asks for by itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    options = project["optional-dependencies"]
    wanted = map(Requirement, [*project["dependencies"], *options[extra], *options["dev"]])
    return {canonicalize_name(one.name): one for one in wanted if here(one, python)}


def pinned(stack: str, python: str) -> dict[str, str]:
    """Package and version of every line of a lock."""
    lines = (ROOT / "requirements" / f"{stack}.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in pins if here(one, python)}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("stack", STACKS)
def test_a_lock_pins_what_is_declared_within_its_range(stack: str, python: str) -> None:
    pins = pinned(stack, python)
    wrong = [
        f"{wanted} but {stack}.lock has {pins.get(name)}"
        for name, wanted in declared(STACKS[stack], python).items()
        if name not in pins or not wanted.specifier.contains(pins[name])
    ]
    assert wrong == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_oldest_stack_is_every_lower_bound_itself(python: str) -> None:
    wanted = declared("openmmlab", python)
    bounds = {name: next(s for s in one.specifier if s.operator in (">=", "==")) for name, one in wanted.items()}
    pins = pinned("oldest", python)
    assert {name: Version(pins[name]) for name in wanted} == {
        name: Version(one.version) for name, one in bounds.items()
    }


@pytest.mark.parametrize("stack", STACKS)
def test_test_stack_builds_its_own_folder_from_the_projects_files_and_runs_what_test_runs(stack: str) -> None:
    said = make("test-stack", f"STACK={stack}", "--always-make")
    folder = f".venv-{stack}"
    assert f"{folder}/bin/pip install" in said
    assert f"-c requirements/{stack}.lock" in said
    assert f"-e '.[{STACKS[stack]},dev]'" in said
    assert ".venv/" not in said
    (run,) = [line for line in make("test", "--always-make").splitlines() if "/pytest" in line]
    assert said.splitlines()[-1] == run.replace(".venv/", f"{folder}/")


def make(*arguments: str) -> str:
    """What make would do, whichever make started the tests."""
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    return done.stdout


def test_an_unknown_stack_is_named_beside_the_known() -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        make("test-stack", "STACK=onedll")
    assert "STACK=onedll is unknown; choose one of: oldest onedl openmmlab" in error.value.stderr


def test_every_lock_is_a_stack() -> None:
    assert {path.stem for path in (ROOT / "requirements").iterdir()} == set(STACKS)
