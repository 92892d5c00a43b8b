"""What any detector shows of one batch, under stable names; each family adds its heads.

Names of every family: `backbone`, `neck` (tuples of (B, C, H, W)); `backbone.preactivation`, on ResNets, what the
last ReLU of each stage shown is given; and the dotted path of any module.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from det_distill.modes import evaluating
from det_distill.views.anatomy import Anatomy, MapSpec
from det_distill.views.sight import Sight
from det_distill.views.taps import Pick, Recorder, cloned, output, submodule


def part(index: int) -> Pick:
    """Picks one part of what a head returns."""
    return lambda _, value: tuple(value[index]) if isinstance(value[index], list) else value[index]


ROIS, ROI_CROPS, PROPOSALS = "roi.rois", "roi.crops", "rpn.proposals"
RPN_TARGETS, ROI_TARGETS, DENSE_TARGETS = "rpn.targets", "roi.targets", "head.targets"
TRAINING = (ROIS, ROI_CROPS, PROPOSALS, RPN_TARGETS, ROI_TARGETS, DENSE_TARGETS)  # of all families
PREACTIVATION = "backbone.preactivation"
TRUNK: dict[str, tuple[str, Pick]] = {"backbone": ("backbone", output), "neck": ("neck", output)}
LEVELS = 32  # of a pyramid, each half of the one before: beyond, an image of a single cell has more than 10^9 pixels
DRY_RUN = 256  # pixels a side; a multiple of every stride in use, so that strides come out whole


class View:
    """Watches one detector under the names above.

    Args:
        detector: A stock MMDetection detector.
        side: "student" or "teacher", for messages.

    Raises:
        ValueError: The detector is of another family.
    """

    heads: tuple[str, ...] = ()  # stages behind the trunk, in the order they run
    sources: dict[str, tuple[str, Pick]] = TRUNK  # the module that shows each name, and what of its call
    training: tuple[str, ...] = ()  # names that are made while it trains, so that only the student shows them
    bare = False  # an RPN alone
    has_rois = False  # judges boxes cut from its maps

    def __init__(self, detector: nn.Module, side: str) -> None:
        self.detector: Any = detector
        self.side, self._relus = side, _last_relus(detector)

    @property
    def grid_head(self) -> Any:
        """The head that judges every cell; None where none does."""
        return None

    @property
    def priors(self) -> Any:
        """What it judges in every cell: the prior generator, where there is one."""
        return getattr(self.grid_head, "prior_generator", None)

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart; None for a bare RPN, which tells none, and where nobody knows."""
        raise NotImplementedError

    def names(self) -> tuple[str, ...]:
        """The stable names this detector has."""
        absent = {"neck"} if not self.detector.with_neck else set()
        if not self._relus:
            absent.add(PREACTIVATION)
        always = (name for name in (*self.sources, PREACTIVATION) if name not in self.training)
        return tuple(name for name in (*always, *self.training) if name not in absent)

    def stage(self, name: str) -> str:
        """The part of the detector that must run for a name.

        Raises:
            ValueError: The detector shows nothing under that name; suggests the nearest.
        """
        if name in self.names():
            return name.split(".")[0]
        if "." not in name or name in (PREACTIVATION, *TRAINING, *self.sources):
            self._unknown(name)
        try:
            submodule(self.detector, name)
            return self._stage_of_module(name.split(".")[0])
        except ValueError as error:
            self._unknown(name, f"; {error}")

    def _stage_of_module(self, first: str) -> str:
        """The stage that a module of the detector, by the first part of its path, belongs to."""
        if first in TRUNK:
            return first
        if not self.follows(first):
            raise ValueError(
                f"'{first}' runs behind the neck, and a {type(self.detector).__name__} is followed no further"
            )
        return self.heads[-1]

    def follows(self, path: str) -> bool:
        """Whether a module of the detector, by its dotted path, is one that `run` comes to, boxes given."""
        return bool(self.heads) or path.split(".")[0] in TRUNK

    def stages(self, names: Iterable[str]) -> list[str]:
        """The parts that run for some names: heads that one of them needs, and the trunk as far as it carries them."""
        needed = {self.stage(name) for name in names}
        heads = [stage for stage in self.heads if stage in needed]
        neck = self._neck if heads or "neck" in needed else []
        return (["backbone"] if needed else []) + neck + heads

    @property
    def _neck(self) -> list[str]:
        return ["neck"] if self.detector.with_neck else []

    def _unknown(self, name: str, why: str = "") -> NoReturn:
        own = self.names()
        close = difflib.get_close_matches(name, own, n=1, cutoff=0.3)
        hint = f"; did you mean '{close[0]}'?" if close else "."
        if name == PREACTIVATION:
            hint += f" {type(self.detector.backbone).__name__} is no ResNet: name its last convolution or norm instead."
        raise ValueError(
            f"the {self.side} has no tap '{name}'{hint} It shows {', '.join(own)} and dotted module paths{why}"
        )

    def record(self, names: Iterable[str]) -> Sight:
        """A context that records the names while the detector runs, as in its own `loss`."""
        return Sight(self.side, names, self._attach, self.names())

    def _attach(self, recorder: Recorder, name: str) -> None:
        """Watch what a name stands for."""
        if name == PREACTIVATION:
            recorder.last_inputs(name, self.detector.backbone, self._relus)
        elif name in self.sources:
            path, pick = self.sources[name]
            recorder.watch(name, submodule(self.detector, path), pick)
        else:
            recorder.watch(name, submodule(self.detector, name), lambda _, out: cloned(out))

    def run(self, inputs: Tensor, names: Sequence[str], rois: Tensor | None = None, whole: bool = False) -> Sight:
        """Forward just the stages the names need, and return what they show.

        Args:
            inputs: (B, 3, H, W), preprocessed for this detector.
            names: What to show; names of training exist in the student's own training step only.
            rois: (N, 5) image index and box, for names of the RoI stage.
            whole: Forward every stage known here instead.
        """
        for name in TRAINING:
            if name in names:
                raise ValueError(f"'{name}' exists on the training student only, but the {self.side} is asked for it")
        stages = ["backbone", *self._neck, *self.heads] if whole else self.stages(names)
        with self.record(names) as sight:
            if "backbone" in stages:
                maps = self.detector.backbone(inputs)
            if "neck" in stages:
                maps = self.detector.neck(maps)
            for head in stages:
                if head in self.heads:
                    self._run_head(head, maps, rois, None if whole else [n for n in names if self.stage(n) == head])
        return sight

    def _run_head(self, head: str, maps: Any, rois: Tensor | None, names: Sequence[str] | None) -> None:
        """Forward a stage behind the trunk, as far as the names need it; the whole of it where they are None."""
        raise NotImplementedError

    def best_boxes(self, inputs: Tensor, metas: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[Sight, Any]:
        """What the names show, and per image the boxes (P, 4) the dense head finds, best first."""
        raise NotImplementedError

    def anatomy(self, names: Sequence[str], scale: float = 1.0) -> Anatomy:
        """What a term may know before training; `scale` is that of this detector's input."""
        raise NotImplementedError

    def dry_run(self, names: Sequence[str]) -> dict[str, tuple[MapSpec, ...] | tuple[int, ...]]:
        """What each name looks like: a `MapSpec` per level for maps, the shape behind N for RoI tensors.

        Runs the detector once on zeros, in eval mode and without gradient; training flags are restored.

        Raises:
            ValueError: It fails: parts do not fit together, or such an image is too small for it.
        """
        levels = getattr(getattr(self.detector, "neck", None), "num_outs", 0)
        if not levels <= LEVELS:
            raise ValueError(f"the {self.side}'s neck.num_outs={levels!s:.80}; at most {LEVELS} levels are expected")
        for name in names:
            self.stage(name)
        names = [name for name in names if name not in TRAINING]
        device = next(self.detector.parameters()).device
        rois = torch.tensor([[0.0, 32, 32, 160, 160]], device=device)
        with evaluating(self.detector), torch.no_grad():
            try:
                sight = self.run(torch.zeros(1, 3, DRY_RUN, DRY_RUN, device=device), names, rois)
            except RuntimeError as error:
                raise ValueError(
                    f"the {self.side}, a {type(self.detector).__name__}, fails on an image of {DRY_RUN} x {DRY_RUN} "
                    f"pixels, on which its maps are measured: {error}"
                ) from error
        return {name: self._spec(name, sight[name]) for name in names}

    def _spec(self, name: str, value: Any) -> tuple[MapSpec, ...] | tuple[int, ...]:
        if isinstance(value, Tensor) and name.startswith("roi"):
            return tuple(value.shape[1:])
        if name.startswith("roi."):
            raise ValueError(f"the {self.side}'s '{name}' is a {type(value).__name__}, not a tensor of a row a box")
        maps = value if isinstance(value, tuple | list) else (value,)
        for one in maps:
            if not isinstance(one, Tensor) or one.dim() != 4:
                found = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
                raise ValueError(f"the {self.side}'s '{name}' shows {found}, not feature maps (B, C, H, W)")
        return tuple(MapSpec(one.shape[1], round(DRY_RUN / one.shape[2])) for one in maps)


def _last_relus(detector: Any) -> list[nn.Module]:
    """The ReLU that ends each stage a ResNet shows; none on another backbone."""
    backbone = detector.backbone
    layers = [getattr(backbone, name) for name in getattr(backbone, "res_layers", ())]
    if not layers or not all(hasattr(layer[-1], "relu") for layer in layers):
        return []
    return [layers[index][-1].relu for index in backbone.out_indices]
