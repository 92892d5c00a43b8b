"""Training in stages: which terms teach, and what learns, in one part of a run after another.

FitNets' hint stage (Romero et al., ICLR 2015, arXiv:1412.6550) is one: a hint alone trains the student's lower half,
then the task and the soft labels train the whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from det_distill.refusals import blamed, choice, only_keys
from det_distill.views.taps import below, submodule

STUDENT, TERMS = "student", "terms"


@dataclass(frozen=True)
class Stage:
    """One part of a run.

    Attributes:
        until: Where it ends, in epochs of the run (iterations, where the train loop counts those); None for the end.
        terms: Names of the terms that teach; None for all. The adapters of these learn, those of no other.
        task_loss: Whether the student's own losses count. Without them the parts behind the last tap do not even run,
            unless a term needs the boxes that the student samples.
        train: Dotted paths of the student's modules that learn; None for all. The others rest: no gradient, no weight
            decay, norm layers in eval mode. What the config freezes stays frozen.
        optim_wrapper: Merged onto the run's own, as a child config is. None for the run's.
        param_scheduler: Instead of the run's own. None for the run's.
    """

    until: int | None = None
    terms: tuple[str, ...] | None = None
    task_loss: bool = True
    train: tuple[str, ...] | None = None
    optim_wrapper: Mapping[str, Any] | None = None
    param_scheduler: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None

    @property
    def own(self) -> bool:
        """Whether it has an optimiser or a schedule of its own."""
        return self.optim_wrapper is not None or self.param_scheduler is not None

    def teaches(self, term: str) -> bool:
        """Whether a term counts."""
        return self.terms is None or term in self.terms

    def learns(self, path: str) -> bool:
        """Whether a module or weight of a Distiller learns: `student.<path>` or `terms.<name>.<path>`."""
        side, _, rest = path.partition(".")
        if side == TERMS:
            return self.teaches(rest.split(".")[0])
        return self.train is None or below(rest, self.train)

    def __str__(self) -> str:
        terms = "all terms" if self.terms is None else f"terms {', '.join(self.terms) or 'none'}"
        train = "the whole student" if self.train is None else ", ".join(self.train) or "the adapters alone"
        return f"{terms}; task loss {'on' if self.task_loss else 'off'}; trains {train}"


class Stages:
    """The stages of a run, and the one that it is in.

    Consecutive stages without settings of their own share one *leg*, that is one optimiser and its schedule; a stage
    with some is a leg of its own.

    Args:
        configs: The stages in order, each a dict of `Stage`'s attributes.
        student: The detector whose modules `train` names.
        terms: Terms by name.

    Raises:
        ValueError: An unknown key, term or module, an `until` that does not rise, or a stage in which nothing teaches
            or nothing learns; names the stage.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]] | None, student: nn.Module, terms: nn.ModuleDict) -> None:
        if configs is not None and not isinstance(configs, list | tuple):
            raise ValueError(f"stages: a list of dicts is expected, found {configs!r}")
        self.student, self.terms = student, terms
        self._may_learn = {name for name, weight in self._weights() if weight.requires_grad}
        self.index: int | None = None
        self.all: tuple[Stage, ...] = ()
        for cfg in configs or ():
            self.all += (self._parsed(f"stages.{len(self.all)}", cfg),)

    def _parsed(self, key: str, cfg: Mapping[str, Any]) -> Stage:
        only_keys(cfg, tuple(field.name for field in fields(Stage)), key)
        lists = {name: _names(f"{key}.{name}", cfg.get(name)) for name in ("terms", "train")}
        stage = Stage(**{**cfg, **lists})
        begin = self.begin(len(self.all))
        if begin is None:
            raise ValueError(f"{key}: the stage before has no `until`, so this one never begins")
        if stage.until is not None and not (isinstance(stage.until, int) and stage.until > begin):
            raise ValueError(f"{key}.until={stage.until!r}; a whole number above {begin} is expected")
        for name in stage.terms or ():
            choice(f"{key}.terms", name, self.terms.keys())
        with blamed(f"{key}.train"):
            for path in stage.train or ():
                submodule(self.student, path)
        if not stage.task_loss and not any(map(stage.teaches, self.terms)):
            raise ValueError(f"{key}: task_loss=False and no term, so nothing teaches")
        if not any(stage.learns(name) for name in self._may_learn):
            raise ValueError(f"{key}: nothing learns; train={stage.train} holds no weight that the config lets learn")
        return stage

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.student.named_parameters(prefix=STUDENT)
        yield from self.terms.named_parameters(prefix=TERMS)

    # ------------------------------------------------------------ when

    def begin(self, index: int) -> int | None:
        """Where a stage begins."""
        return self.all[index - 1].until if index else 0

    def at(self, now: int) -> int:
        """Index of the stage at an epoch (or iteration) of the run, counted from 0."""
        return next(i for i, stage in enumerate(self.all) if stage.until is None or now < stage.until)

    def leg(self, index: int) -> tuple[int, int]:
        """First and last of the stages around this one that share its optimiser."""
        first = last = index
        if not self.all[index].own:
            while first > 0 and not self.all[first - 1].own:
                first -= 1
            while last + 1 < len(self.all) and not self.all[last + 1].own:
                last += 1
        return first, last

    def fill(self, total: int, unit: str) -> None:
        """Demand that a run of `total` epochs (or iterations) has a stage for each, and every stage its turn.

        Raises:
            ValueError: It has not; names the stage.
        """
        last = len(self.all) - 1
        end, begin = self.all[last].until, self.begin(last) or 0
        if end is not None and end < total:
            raise ValueError(f"stages.{last}.until={end}, but the run lasts {total} {unit}; leave the last until out")
        if begin >= total:
            raise ValueError(f"stages.{last} begins after {begin} {unit}, but the run lasts {total}")

    # ------------------------------------------------------------ what

    @property
    def now(self) -> Stage:
        """The stage that was entered; before that, one in which everything teaches and learns."""
        return Stage() if self.index is None else self.all[self.index]

    def enter(self, index: int | None) -> None:
        """Let learn what learns in a stage, and nothing else; with None, whatever the config lets."""
        self.index = index
        for name, weight in self._weights():
            weight.requires_grad_(name in self._may_learn and self.now.learns(name))
            if not weight.requires_grad:
                weight.grad = None  # an optimiser passes over it, weight decay and momentum included
        self.rest()

    def rest(self) -> None:
        """Keep the running statistics of what does not learn; to be called whenever the mode was set."""
        if self.now.train is None:
            return
        for name, module in self.student.named_modules(prefix=STUDENT):
            if isinstance(module, _NormBase) and not self.now.learns(name):
                module.eval()


def _names(key: str, found: Any) -> tuple[str, ...] | None:
    if found is not None and not isinstance(found, list | tuple):
        raise ValueError(f"{key}={found!r}; a list of names is expected")
    return None if found is None else tuple(found)
