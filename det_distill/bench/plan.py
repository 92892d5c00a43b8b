"""A plan of runs: one teacher, its student alone and with each method, on some budgets, with some seeds.

Each run is a command of `tools/`, in a folder of its own beside its log; what is done is not done again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from det_distill.compat.whole_files import WholeFiles
from det_distill.configs import demand_distiller, override, read_config
from det_distill.demo import metrics_of
from det_distill.refusals import only_keys

NEEDED = ("teacher", "alone", "methods", "budgets", "seeds")
KEYS = (*NEEDED, "metric", "options")
TAUGHT = ("terms", "task_weights", "stages", "init_cfg")  # what of a method's Distiller is its own, not the pair's


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
    """A file of `KEYS`: configs of a teacher, of its student alone, and of methods; budgets, seeds and a metric.

    Of a method's config only what teaches is taken (`TAUGHT`, and its custom hooks): data, schedule and nets are those
    of `alone`, so that every budget is equal by construction, and a method's config for one pair serves for another.
    `budgets` are `--cfg-options` by name, `options` those of every run; `alone` is a method of that name.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A key is unknown or absent.
    """

    def __init__(self, file: str, out: Path) -> None:
        plan = read_config(file, "plan").to_dict()
        only_keys(plan, KEYS, file)
        for key in NEEDED:
            if key not in plan:
                raise ValueError(f"{file} has no '{key}'; {', '.join(NEEDED)} are expected")
        self.out, self.metric = out, plan.get("metric", "coco/bbox_mAP")
        self.budgets, self.seeds = plan["budgets"], list(plan["seeds"])
        self.methods = {"alone": plan["alone"]} | plan["methods"]
        self.options = plan.get("options", {})
        self.teacher = Run(plan["teacher"], out / "teacher", _options(self.options))

    @property
    def weights(self) -> Path:
        """Where the teacher's checkpoint is found."""
        return self.out / "teacher" / "teacher.pth"

    def run(self, budget: str, method: str, seed: int) -> Run:
        """A student's run."""
        folder, drawn = self.out / budget / method, {"randomness.seed": seed}
        if method != "alone":
            return Run(str(folder / "config.py"), folder / str(seed), _options(drawn))
        return Run(self.methods[method], folder / str(seed), _options(self.options | self.budgets[budget] | drawn))

    def prepare(self, budget: str, method: str) -> None:
        """Write the config of a method's runs.

        Raises:
            FileNotFoundError: No such method's config.
            ValueError: It is no Distiller's.
        """
        if method != "alone":
            folder = self.out / budget / method
            WholeFiles().put_text(self.taught(budget, method).pretty_text, folder / "config.py")

    def taught(self, budget: str, method: str) -> Config:
        """The student's own config, with a teacher and what a method teaches with."""
        taught = read_config(self.methods[method], f"methods.{method}")
        demand_distiller(taught, f"methods.{method}")
        cfg = read_config(self.methods["alone"], "alone")
        override(cfg, self.options | self.budgets[budget])
        teacher = dict(config=self.teacher.config, checkpoint=str(self.weights))
        parts = {key: taught.model[key] for key in TAUGHT if key in taught.model}
        cfg.model = dict(type="Distiller", student=dict(model=cfg.model), teacher=teacher, **parts)
        stretch(cfg.model.get("stages", ()), cfg.train_cfg.max_epochs)
        cfg.custom_imports, cfg.custom_hooks = taught.custom_imports, taught.custom_hooks
        return cfg


def stretch(stages: Sequence[Any], epochs: int) -> None:
    """Let the cosines of stages end where their stages do, in a run of so many epochs."""
    begin = 0
    for stage in stages:
        end = stage.get("until") or epochs
        for schedule in stage.get("param_scheduler") or ():
            if schedule["type"] == "CosineAnnealingLR":
                schedule["T_max"] = end - begin
        begin = end


def _options(given: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in given.items())
