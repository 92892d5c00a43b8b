"""What a plan runs, what it leaves alone, and the shares it tells."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from det_distill.bench import results as made
from det_distill.bench.results import Plan, results, spread

PLAN = """
teacher = "teacher.py"
alone = "alone.py"
methods = {"imitation": "near.py", "hint": "hint.py"}
budgets = dict(short={}, long={"train_cfg.max_epochs": 24})
seeds = [0, 1]
"""
SCORES = {"teacher.py": 0.6, "alone.py": 0.5, "near.py": 0.58, "hint.py": 0.45}  # and a hundredth more with seed 1


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Those asked for; instead of running them, what they would leave behind is written."""
    asked: list[list[str]] = []

    def run(command: list[str], stdout: Any, **_: Any) -> None:
        asked.append(command)
        stdout.write("log\n")
        folder, config = Path(command[command.index("--work-dir") + 1]), command[2]
        if command[1] == "tools/train.py":
            if "broken" in config:
                raise subprocess.CalledProcessError(1, command)
            (folder / "epoch_6.pth").touch()
            (folder / "last_checkpoint").write_text(str(folder / "epoch_6.pth"))
            (folder / "time" / "vis_data").mkdir(parents=True)
            lines = [{"loss": 1, "step": 5}, {"coco/bbox_mAP": SCORES[config] / 2, "step": 6}]
            (folder / "time" / "vis_data" / "scalars.json").write_text("\n".join(map(json.dumps, lines)))
        else:
            (folder / "time").mkdir(parents=True)
            score = SCORES[config] + 0.01 * ("randomness.seed=1" in command)
            (folder / "time" / "time.json").write_text(json.dumps({"coco/bbox_mAP": score}))

    monkeypatch.setattr(made.subprocess, "run", run)
    return asked


@pytest.fixture
def plan(tmp_path: Path) -> str:
    (tmp_path / "plan.py").write_text(PLAN)
    return str(tmp_path / "plan.py")


def cells(told: str, budget: str, method: str) -> list[str]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines()]
    return next(row[2:5] for row in rows if row[:2] == [budget, method])


def test_the_table_tells_shares_worked_out_by_hand(plan: str, commands: list[list[str]], tmp_path: Path):
    told = results(plan, str(tmp_path / "out"))
    assert cells(told, "", "teacher") == ["", "60.0", ""]
    assert cells(told, "short", "alone") == ["2", "50.5 ± 0.7", ""]
    assert cells(told, "short", "imitation") == ["2", "58.5 ± 0.7", "84.4 ± 6.3 %"]  # 8 / 10 and 8 / 9
    assert cells(told, "long", "hint") == ["2", "45.5 ± 0.7", "-52.8 ± 3.9 %"]  # -5 / 10 and -5 / 9
    assert (tmp_path / "out" / "results.md").read_text() == told + "\n"
    assert (tmp_path / "out" / "short.png").stat().st_size > 5000
    assert len(commands) == 2 * (1 + 2 * 3 * 2)


def test_a_run_has_its_budget_seed_and_the_plans_teacher(plan: str, commands: list[list[str]], tmp_path: Path):
    results(plan, str(tmp_path / "out"), budgets=["long"], methods=["hint"], seeds=[1])
    teacher, _, train, test = commands
    assert "--cfg-options" not in teacher
    for command in (train, test):
        given = command[command.index("--cfg-options") + 1 :]
        checkpoint = tmp_path / "out" / "teacher" / "teacher.pth"
        assert given == ["train_cfg.max_epochs=24", "randomness.seed=1", f"model.teacher.checkpoint={checkpoint}"]
        assert checkpoint.resolve() == (tmp_path / "out" / "teacher" / "epoch_6.pth").resolve()
    assert "--resume" in train


def test_what_is_done_is_not_done_again(plan: str, commands: list[list[str]], tmp_path: Path):
    first = results(plan, str(tmp_path / "out"), methods=["alone"], jobs=2)
    count = len(commands)
    assert results(plan, str(tmp_path / "out"), methods=["alone"]) == first
    assert results(plan, str(tmp_path / "out"), table_only=True) == first
    assert len(commands) == count
    assert cells(first, "long", "hint") == ["0", "", ""]


def test_a_run_that_fails_is_named_and_the_others_are_done(plan: str, commands: list[list[str]], tmp_path: Path):
    Path(plan).write_text(PLAN.replace("near.py", "broken.py"))
    with pytest.raises(RuntimeError, match=r"2 of 4 runs failed; see the logs in .*short/imitation/0, .*imitation/1"):
        results(plan, str(tmp_path / "out"), budgets=["short"], methods=["imitation", "hint"])
    assert cells((tmp_path / "out" / "results.md").read_text(), "short", "hint")[0] == "2"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("seeds", "seed"), r"plan\.py\.seed is unknown, did you mean 'seeds'\?"),
        (('alone = "alone.py"', ""), "has no 'alone'; teacher, alone, methods, budgets, seeds are expected"),
    ],
)
def test_a_wrong_plan_is_refused_and_its_key_named(plan: str, change: tuple[str, str], told: str, tmp_path: Path):
    Path(plan).write_text(PLAN.replace(*change))
    with pytest.raises(ValueError, match=told):
        results(plan, str(tmp_path / "out"))


def test_a_wrong_choice_is_refused_and_the_nearest_named(plan: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"methods='hnit' is none of .*did you mean 'hint'"):
        results(plan, str(tmp_path / "out"), methods=["hnit"])


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "configs" / "results").glob("*.py")), ids=str)
def test_shipped_plans_name_configs_that_are_there(file: Path, tmp_path: Path):
    plan = Plan(str(file), tmp_path)
    root = file.parents[2]
    assert all((root / one).is_file() for one in (plan.teacher.config, *plan.methods.values()))


def test_one_value_has_no_spread():
    assert [spread(one) for one in ([], [1.0], [1.0, 3.0])] == ["", "1.0", "2.0 ± 1.4"]
