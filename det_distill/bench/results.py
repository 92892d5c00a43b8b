"""Many runs of one plan, and one table: how much of the gap to its teacher each method closes."""

import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from det_distill.bench.plan import Plan, Run
from det_distill.bench.plot import plot_curves
from det_distill.demo import table
from det_distill.refusals import at_least, choice

HEAD = ("budget", "method", "seeds", "AP", "share of the gap", "config")


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
    lengths = [choice("budgets", one, [*known.budgets]) for one in budgets] if budgets else [*known.budgets]
    ways = [choice("methods", one, [*known.methods]) for one in methods] if methods else [*known.methods]
    chosen = [known.run(length, way, seed) for length in lengths for seed in seeds or known.seeds for way in ways]
    failed = []
    if not table_only:
        for length, way in product(lengths, ways):
            known.prepare(length, way)
        failed = _do(known, chosen, jobs)
    told = _told(known)
    Path(out).mkdir(parents=True, exist_ok=True)
    Path(out, "results.md").write_text(told + "\n")
    teacher = _curve(known.teacher, known.metric)
    for budget in known.budgets:
        curves = {
            method: [_curve(known.run(budget, method, seed), known.metric) for seed in known.seeds]
            for method in known.methods
        }
        plot_curves(curves, teacher, Path(out, f"{budget}.png"))
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(chosen)} runs failed; see the logs in {', '.join(failed)}")
    return told


def _do(plan: Plan, runs: Sequence[Run], jobs: int) -> list[str]:
    """The folders of runs that failed."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if plan.teacher.score(plan.metric) is None:
        plan.teacher.execute(plan.metric, os.cpu_count() or 1)
    made = json.loads(plan.teacher.score_file.read_text())["checkpoint"]
    plan.weights.unlink(missing_ok=True)
    plan.weights.symlink_to(Path(made).resolve())

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
            if not found:
                continue
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


def _curve(run: Run, metric: str) -> list[tuple[int, float]]:
    """Epoch and validation score in per cent, of all of a run's logs of scalars; none before it is done."""
    if run.score(metric) is None:
        return []
    files = sorted(run.folder.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted({line["step"]: 100 * line[metric] for line in lines if metric in line}.items())
