"""Many runs of one plan, and one table: how much of the gap to its teacher each method closes.

Each run is a command of `tools/`, in a folder of its own beside its log; what is done is not done again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mmengine.runner import find_latest_checkpoint

from det_distill.bench.plot import plot_curves
from det_distill.compat.whole_files import WholeFiles
from det_distill.configs import read_config
from det_distill.demo import metrics_of, table
from det_distill.refusals import at_least, choice, only_keys

KEYS = ("teacher", "alone", "methods", "budgets", "seeds", "metric", "options")
HEAD = ("budget", "method", "seeds", "AP", "share of the gap", "config")


@dataclass(frozen=True)
class Run:
    """One training and the test of what it made."""

    config: str
    folder: Path
    options: tuple[str, ...]

    @property
    def score_file(self) -> Path:
        return self.folder / "score.json"

    def execute(self, metric: str, threads: int) -> None:
        """Train from where a run before was interrupted, test, and write the score last.

        Raises:
            subprocess.CalledProcessError: One of them failed; its log lies in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--cfg-options", *self.options] if self.options else []
        self._tool("train", threads, self.config, "--work-dir", str(self.folder), "--resume", *options)
        checkpoint, test = find_latest_checkpoint(str(self.folder)), self.folder / "test"
        self._tool("test", threads, self.config, checkpoint, "--work-dir", str(test), *options)
        score = {metric: 100 * metrics_of(test)[metric], "checkpoint": checkpoint}
        WholeFiles().put_text(json.dumps(score), self.score_file)

    def _tool(self, name: str, threads: int, *args: str) -> None:
        command = [sys.executable, f"tools/{name}.py", *args]
        with (self.folder / f"{name}.log").open("a") as log:
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def score(self, metric: str) -> float | None:
        """In per cent; None before it is done."""
        found: float | None = json.loads(self.score_file.read_text())[metric] if self.score_file.is_file() else None
        return found


class Plan:
    """A file of `KEYS`: the configs of a teacher, of the student alone and of methods, budgets, seeds and a metric.

    `budgets` are `--cfg-options` by name, `options` those of every run; `alone` is a method of that name.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A key is unknown or absent.
    """

    def __init__(self, file: str, out: Path) -> None:
        plan = read_config(file, "plan").to_dict()
        only_keys(plan, KEYS, file)
        for key in KEYS[:5]:
            if key not in plan:
                raise ValueError(f"{file} has no '{key}'; {', '.join(KEYS[:5])} are expected")
        self.out, self.metric = out, plan.get("metric", "coco/bbox_mAP")
        self.budgets, self.seeds = plan["budgets"], list(plan["seeds"])
        self.methods = {"alone": plan["alone"]} | plan["methods"]
        self.options = plan.get("options", {})
        self.teacher = Run(plan["teacher"], out / "teacher", _options(self.options))

    def run(self, budget: str, method: str, seed: int) -> Run:
        """A student's run; its teacher is the plan's, wherever the config looks for one."""
        options = self.options | self.budgets[budget] | {"randomness.seed": seed}
        if method != "alone":
            options |= {"model.teacher.checkpoint": str(self.out / "teacher" / "teacher.pth")}
        return Run(self.methods[method], self.out / budget / method / str(seed), _options(options))


def _options(given: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in given.items())


def results(
    plan: str,
    out: str,
    budgets: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    table_only: bool = False,
) -> str:
    """Do every run of a plan that is not done, and tell what all that are done came to.

    A share is that of the gap between the student alone and its teacher that a method closes, of each seed by itself.

    Args:
        plan: See `Plan`.
        out: Folder of everything made: runs, `results.md`, a plot of learning curves per budget.
        budgets: Those to run; all by default.
        methods: Likewise.
        seeds: Likewise.
        jobs: Runs at a time; they share the CPU's cores.
        table_only: Run nothing.

    Returns:
        A table.

    Raises:
        FileNotFoundError: No such plan.
        ValueError: The plan or a choice is wrong.
        RuntimeError: Runs failed, the others are done; names their folders.
    """
    at_least("jobs", jobs, 1)
    known = Plan(plan, Path(out))
    chosen = [
        known.run(budget, method, seed)
        for budget in ([choice("budgets", one, [*known.budgets]) for one in budgets] if budgets else known.budgets)
        for seed in seeds or known.seeds
        for method in ([choice("methods", one, [*known.methods]) for one in methods] if methods else known.methods)
    ]
    failed = [] if table_only else _do(known, chosen, jobs)
    told = _told(known)
    Path(out).mkdir(parents=True, exist_ok=True)
    Path(out, "results.md").write_text(told + "\n")
    for budget in known.budgets:
        curves = {
            method: [_curve(known.run(budget, method, seed).folder, known.metric) for seed in known.seeds]
            for method in known.methods
        }
        plot_curves(curves, known.teacher.score(known.metric), Path(out, f"{budget}.png"))
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(chosen)} runs failed; see the logs in {', '.join(failed)}")
    return told


def _do(plan: Plan, runs: Sequence[Run], jobs: int) -> list[str]:
    """The folders of runs that failed."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if plan.teacher.score(plan.metric) is None:
        plan.teacher.execute(plan.metric, os.cpu_count() or 1)
    made = json.loads(plan.teacher.score_file.read_text())["checkpoint"]
    link = plan.out / "teacher" / "teacher.pth"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(made).resolve())

    def attempt(run: Run) -> str | None:
        print(f"{run.config} in {run.folder}", flush=True)
        try:
            run.execute(plan.metric, threads)
        except subprocess.CalledProcessError:
            return str(run.folder)
        return None

    with ThreadPoolExecutor(jobs) as pool:
        return [one for one in pool.map(attempt, [run for run in runs if run.score(plan.metric) is None]) if one]


def _told(plan: Plan) -> str:
    teacher = plan.teacher.score(plan.metric)
    rows = [list(HEAD), ["", "teacher", "", "" if teacher is None else f"{teacher:.1f}", "", plan.teacher.config]]
    for budget in plan.budgets:
        scores = {
            name: [plan.run(budget, name, seed).score(plan.metric) for seed in plan.seeds] for name in plan.methods
        }
        for name, config in plan.methods.items():
            pairs = list(zip(scores["alone"], scores[name], strict=True))
            found = [one for _, one in pairs if one is not None]
            shares = [
                100 * (one - own) / (teacher - own)
                for own, one in pairs
                if name != "alone" and teacher is not None and own is not None and one is not None
            ]
            rows.append([budget, name, str(len(found)), spread(found), spread(shares, " %"), config])
    return table(rows)


def spread(values: Sequence[float], unit: str = "") -> str:
    """Mean and sample standard deviation.

    Example:
        >>> spread([1.0, 2.0, 3.0]), spread([1.0], " %"), spread([])
        ('2.0 ± 1.0', '1.0 %', '')
    """
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "") + unit


def _curve(folder: Path, metric: str) -> list[tuple[int, float]]:
    """Epoch and validation score in per cent, of all of a run's logs of scalars."""
    files = sorted(folder.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted({line["step"]: 100 * line[metric] for line in lines if metric in line}.items())
