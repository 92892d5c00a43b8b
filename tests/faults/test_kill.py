"""A run that is killed at any moment and resumed ends as if nobody had touched it, to the bit.

`DET_DISTILL_KILLS=20 pytest -s tests/faults/test_kill.py` kills as often, and prints where the kills fell.
"""

import os
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from det_distill.compat import checkpoints

KILLS = int(os.environ.get("DET_DISTILL_KILLS", "3"))
MOMENTS = ("writing", "evaluation", "any")


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, whatever is nested in it."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def result(out: Path) -> dict[str, Any]:
    """What a finished run leaves: everything but times, paths and logs."""
    [last], [best] = out.glob("epoch_*.pth"), out.glob("best_*.pth")
    content = checkpoints.load(last)
    kept = {key: content[key] for key in ("state_dict", "optimizer", "param_schedulers", "distill", "random_streams")}
    score = content["message_hub"]["runtime_info"]["best_score"]
    return kept | dict(last=last.name, best=best.name, weights=checkpoints.load(best)["state_dict"], score=score)


class Watched:
    """A run whose output is read line by line while it goes on."""

    def __init__(self, command: list[str], out: Path) -> None:
        self.out, self.lines = out, []
        self.process = subprocess.Popen(
            command, cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.reader.start()

    def progress(self) -> list[str]:
        return [line for line in list(self.lines) if "Epoch(" in line]

    def writing(self) -> bool:
        return any(self.out.glob("*.part"))

    def until(self, seen: Callable[[], bool]) -> bool:
        """Whether it was seen before the run ended."""
        while self.process.poll() is None:
            if seen():
                return True
            time.sleep(0.0005)
        return False

    def kill(self, moment: str, dice: random.Random) -> str | None:
        """Kill it at such a moment; where that fell, or None where the run ended before."""
        if moment == "writing":
            nth = dice.randint(1, 4)
            seen = all(self.until(self.writing) and (n == nth or self.until(lambda: not self.writing()))
                       for n in range(1, nth + 1))  # fmt: skip
        elif moment == "evaluation":
            nth = dice.randint(1, 4)
            seen = self.until(lambda: len([line for line in self.progress() if "Epoch(val)" in line]) >= nth)
        else:
            seen = self.until(self.progress)
            delay = time.monotonic() + dice.uniform(0, 6)
            seen = seen and self.until(lambda: time.monotonic() > delay)
        self.process.kill()
        code = self.process.wait()
        self.reader.join()
        if not seen or code >= 0:
            assert code == 0, "".join(self.lines[-20:])
            return None
        if self.writing():
            return "writing"
        return "evaluation" if re.search(r"Epoch\(val\)(?!.*mAP)", self.progress()[-1]) else "training"


def names(out: Path) -> Iterator[str]:
    return (kind for kind in ("epoch", "best") if any(out.glob(f"{kind}_*.pth")))


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_the_uninterrupted_one(tmp_path, command, train):
    done = train(tmp_path / "whole")
    assert done.returncode == 0, done.stderr[-3000:]
    whole = result(tmp_path / "whole")
    dice, fell, runs = random.Random(7), Counter(), 0

    while fell.total() < KILLS:
        out, runs = tmp_path / f"killed_{runs}", runs + 1
        where, kept = "", set()
        while fell.total() < KILLS and where is not None:
            run = Watched(command(out, "--resume"), out)
            where = run.kill(MOMENTS[fell.total() % len(MOMENTS)], dice)
            fell.update([where] if where else [])
            there = set(names(out))
            assert kept <= there  # what was there once is never gone
            kept = there
            for file in out.glob("*.pth"):
                checkpoints.load(file)
        if where is not None:
            done = train(out, "--resume")
            assert done.returncode == 0, done.stderr[-3000:]
        found = result(out)
        assert [key for key in whole if not same(whole[key], found[key])] == []
        assert not list(out.glob("*.part"))
    print(f"\n{KILLS} kills over {runs} runs fell into: {dict(fell)}")
