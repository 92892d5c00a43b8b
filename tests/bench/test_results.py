"""What a plan runs, what it leaves alone, and the shares it tells."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from det_distill.bench import plan as plans
from det_distill.bench.plan import Plan, stretch
from det_distill.bench.plot import plot_curves
from det_distill.bench.results import results, spread

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "configs" / "results").glob("*.py"))

PLAN = """
teacher = "teacher.py"
alone = "{0}/alone.py"
methods = {{"imitation": "{0}/near.py", "hint": "{0}/hint.py"}}
budgets = dict(short={{}}, long={{"train_cfg.max_epochs": 24}})
seeds = [0, 1]
"""
ALONE = "model = dict(type='RetinaNet', depth=18)\ntrain_cfg = dict(max_epochs=6)"
METHOD = """
model = dict(
    type="Distiller", student=dict(type="Other"), teacher=dict(config="other.py"), terms=dict(a=dict(weight=1))
)
train_cfg = dict(max_epochs=99)
custom_imports = dict(imports=["json"])
custom_hooks = [dict(type="MethodsHook")]
"""
SCORES = {"teacher": 0.6, "alone": 0.5, "imitation": 0.58, "hint": 0.45}  # and a hundredth more with seed 1


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Those asked for; instead of running them, what they would leave behind is written."""
    asked: list[list[str]] = []

    def run(command: list[str], stdout: Any, **_: Any) -> None:
        asked.append(command)
        stdout.write("log\n")
        folder = Path(command[command.index("--work-dir") + 1])
        method = next(name for name in SCORES if name in folder.parts)
        if command[1] == "tools/train.py":
            if (folder.parent / "stop").exists():
                raise subprocess.CalledProcessError(1, command)
            (folder / "epoch_6.pth").touch()
            (folder / "last_checkpoint").write_text(str(folder / "epoch_6.pth"))
            (folder / "time" / "vis_data").mkdir(parents=True)
            lines = [{"loss": 1, "step": 5}, {"coco/bbox_mAP": SCORES[method] / 2, "step": 6}]
            (folder / "time" / "vis_data" / "scalars.json").write_text("\n".join(map(json.dumps, lines)))
        else:
            (folder / "time").mkdir(parents=True)
            score = SCORES[method] + 0.01 * ("randomness.seed=1" in command)
            (folder / "time" / "time.json").write_text(json.dumps({"coco/bbox_mAP": score}))

    monkeypatch.setattr(plans.subprocess, "run", run)
    return asked


@pytest.fixture
def plan(tmp_path: Path) -> str:
    for name, text in (("alone", ALONE), ("near", METHOD), ("hint", METHOD), ("plan", PLAN.format(tmp_path))):
        (tmp_path / f"{name}.py").write_text(text)
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
    out = tmp_path / "out"
    results(plan, str(out), budgets=["long"], methods=["alone", "hint"], seeds=[1])
    teacher, _, alone, _, hint, _ = commands
    assert "--cfg-options" not in teacher
    assert alone[2] == str(tmp_path / "alone.py")
    assert alone[alone.index("--cfg-options") + 1 :] == ["train_cfg.max_epochs=24", "randomness.seed=1"]
    assert hint[hint.index("--cfg-options") + 1 :] == ["randomness.seed=1"]
    assert "--resume" in alone
    assert (out / "teacher" / "teacher.pth").resolve() == (out / "teacher" / "epoch_6.pth").resolve()
    cfg = Config.fromfile(hint[2])
    assert cfg.model == dict(
        type="Distiller",
        student=dict(model=dict(type="RetinaNet", depth=18)),
        teacher=dict(config="teacher.py", checkpoint=str(out / "teacher" / "teacher.pth")),
        terms=dict(a=dict(weight=1)),
    )
    assert (cfg.train_cfg.max_epochs, cfg.custom_hooks) == (24, [dict(type="MethodsHook")])


def test_cosines_end_with_their_stages():
    cosine = dict(type="CosineAnnealingLR", T_max=1)
    stages = [
        dict(until=2, param_scheduler=[dict(type="LinearLR"), dict(cosine)]),
        dict(param_scheduler=[dict(cosine)]),
    ]
    stretch([*stages, dict()], 24)
    assert [stage["param_scheduler"][-1]["T_max"] for stage in stages] == [2, 22]


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_on_its_own_pair_a_method_is_trained_as_its_config_says(file: Path, tmp_path: Path, monkeypatch):
    """Of a shipped plan, all but the checkpoint's place is what `tools/train.py` of the method's config would do."""
    monkeypatch.chdir(ROOT)
    plan = Plan(str(file), tmp_path)
    own = [name for name, config in plan.methods.items() if name != "alone" and f"/{file.stem}_" in config]
    for name in own:
        expected, found = Config.fromfile(plan.methods[name]), plan.taught("short", name)
        expected.model.teacher.checkpoint = str(plan.weights)
        expected.model.student = dict(model=expected.model.student)
        assert found.to_dict() == expected.to_dict(), name


def test_what_is_done_is_not_done_again(plan: str, commands: list[list[str]], tmp_path: Path):
    first = results(plan, str(tmp_path / "out"), methods=["alone"], jobs=2)
    count = len(commands)
    assert results(plan, str(tmp_path / "out"), methods=["alone"]) == first
    assert results(plan, str(tmp_path / "out"), table_only=True) == first
    assert len(commands) == count


def test_only_what_was_run_is_told_and_drawn(
    plan: str, commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn = {}

    def noted(curves: Any, teacher: Any, file: Path) -> None:
        drawn[file.stem] = curves, teacher
        plot_curves(curves, teacher, file)

    monkeypatch.setattr("det_distill.bench.results.plot_curves", noted)
    told = results(plan, str(tmp_path / "out"), budgets=["short"], methods=["alone"])
    assert "short" in told
    assert not {"long", "hint"} & {cell.strip() for cell in told.split("|")}
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["short.png"]
    curves, teacher = drawn["short"]
    assert curves == {"alone": [[(6, 25.0)]] * 2, "imitation": [[], []], "hint": [[], []]}
    assert teacher == [(6, 30.0)]  # on the validation split, as the others, not the test split's 60
    (tmp_path / "out" / "short" / "alone" / "1" / "score.json").unlink()  # as of a run under way
    results(plan, str(tmp_path / "out"), table_only=True)
    assert drawn["short"][0]["alone"] == [[(6, 25.0)], []]


def test_a_run_that_fails_is_named_and_the_others_are_done(plan: str, commands: list[list[str]], tmp_path: Path):
    folder = tmp_path / "out" / "short" / "imitation"
    folder.mkdir(parents=True)
    (folder / "stop").touch()
    with pytest.raises(RuntimeError, match=r"2 of 4 runs failed; see the logs in .*short/imitation/0, .*imitation/1"):
        results(plan, str(tmp_path / "out"), budgets=["short"], methods=["imitation", "hint"])
    assert cells((tmp_path / "out" / "results.md").read_text(), "short", "hint")[0] == "2"


def test_a_method_without_a_distiller_is_refused(plan: str, tmp_path: Path):
    (tmp_path / "near.py").write_text(ALONE)
    with pytest.raises(ValueError, match=r"^methods\.imitation: model\.type='RetinaNet'; a Distiller is expected"):
        results(plan, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("seeds", "seed"), r"plan\.py\.seed is unknown, did you mean 'seeds'\?"),
        (('alone = "{0}/alone.py"', ""), "has no 'alone'; teacher, alone, methods, budgets, seeds are expected"),
    ],
)
def test_a_wrong_plan_is_refused_and_its_key_named(plan: str, change: tuple[str, str], told: str, tmp_path: Path):
    Path(plan).write_text(PLAN.replace(*change).format(tmp_path))
    with pytest.raises(ValueError, match=told):
        results(plan, str(tmp_path / "out"))


def test_a_wrong_choice_is_refused_and_the_nearest_named(plan: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"methods='hnit' is none of .*did you mean 'hint'"):
        results(plan, str(tmp_path / "out"), methods=["hnit"])


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_shipped_plans_name_configs_that_are_there(file: Path, tmp_path: Path):
    plan = Plan(str(file), tmp_path)
    assert all((ROOT / one).is_file() for one in (plan.teacher.config, *plan.methods.values()))


def test_one_value_has_no_spread():
    assert [spread(one) for one in ([], [1.0], [1.0, 3.0])] == ["", "1.0", "2.0 ± 1.4"]
