"""Feature-based knowledge: maps compared cell by cell."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor, nn
from torch.nn import functional as F

from det_distill.adapters import fitting
from det_distill.configs import build, choice
from det_distill.losses.imitation import masked_imitation, masked_mean_gap
from det_distill.masks import Mask
from det_distill.scene import levels_of, prior_strides
from det_distill.terms.base import Batch, Term
from det_distill.views.anatomy import Anatomy, paired

DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cell": masked_imitation,
    "l2": partial(masked_mean_gap, norm="l2"),
    "l1": partial(masked_mean_gap, norm="l1"),
}


@MODELS.register_module()
class FeatureImitation(Term):
    """The student's adapted maps imitate the teacher's where a mask says: hints and fine-grained imitation.

    The value is the mean over levels of the distance on the mask's cells. Levels are paired by stride.

    Args:
        tap: A name whose value is maps: "neck", "backbone", or a dotted module path.
        mask: Config of `AnchorIoUMask`, `GtBoxMask` or `FullMask`.
        weight: Multiplier; imitation's source has 0.01 a cell, hints' 0.5 a mean element.
        distance: "cell" is half the squared gap summed over channels, per cell (Wang et al., CVPR 2019); "l2" and
            "l1" are means over the elements of those cells (hints, Chen et al., NIPS 2017).
        adapter: Config of the adapter of each level, channels inferred; None compares the maps as they are.
        quantiser: Config of a `Quantiser` of both sides (Wei et al., ECCV 2018), behind the adapter; None for none.
        schedule: See `Term`.
        strides: The student's levels to compare, where not all.
        resize: For nets of one stride fed at different scales: levels are paired by each net's own stride, and the
            student's adapted map is brought to the teacher's grid, bilinearly (its mask by nearest cell).
    """

    def __init__(
        self,
        tap: str,
        mask: dict[str, Any],
        weight: float,
        distance: str = "cell",
        adapter: dict[str, Any] | None = dict(type="ConvAdapter", kernel=3),  # noqa: B006 - read only
        quantiser: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
        strides: Sequence[int] | None = None,
        resize: bool = False,
    ) -> None:
        super().__init__(weight, schedule)
        self.tap, self.taps, self.strides, self.resize = tap, (tap,), strides, resize
        self.distance = DISTANCES[choice("distance", distance, DISTANCES)]
        self.mask: Mask = build(TASK_UTILS, mask)
        self._adapter = adapter
        self.adapters = nn.ModuleList()
        self.quantiser = build(MODELS, quantiser) if quantiser else nn.Identity()

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        self.pairs = paired(student, teacher, self.tap, self.strides, self.resize)
        self.grid = [pair.strides[0] for pair in self.pairs]
        anchors = prior_strides(student.priors)
        if self.mask.needs_anchors and not set(self.grid) <= set(anchors):
            raise ValueError(
                f"{type(self.mask).__name__} needs anchors at strides {self.grid}, the student's have {anchors}; set "
                "strides=, or use GtBoxMask"
            )
        for pair in self.pairs:
            self.adapters.append(fitting(self._adapter, *pair.channels, f"'{self.tap}' at stride {pair.strides[0]}"))

    def compared(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Per level the student's adapted map and the teacher's, (B, C, H, W) of one shape."""
        own, its = (_maps(side[self.tap]) for side in (student, teacher))
        found = []
        for adapt, pair in zip(self.adapters, self.pairs, strict=True):
            one, goal = adapt(own[pair.places[0]]), its[pair.places[1]]
            if self.resize:
                one = F.interpolate(one, goal.shape[2:], mode="bilinear")
            found.append((self.quantiser(one), self.quantiser(goal)))
        return found

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        own, compared = _maps(student[self.tap]), self.compared(student, teacher)
        shapes = [own[pair.places[0]].shape for pair in self.pairs]
        sizes = [(int(shape[2]), int(shape[3])) for shape in shapes]
        levels = levels_of(batch.priors if self.mask.needs_anchors else None, sizes, self.grid)
        masks = self.mask(batch.scene, levels)
        if self.resize:
            masks = [
                F.interpolate(on[:, None].float(), goal.shape[2:])[:, 0] > 0
                for on, (_, goal) in zip(masks, compared, strict=True)
            ]
        values = [self.distance(one, goal, on) for (one, goal), on in zip(compared, masks, strict=True)]
        return sum(values[1:], values[0]) / len(values)


def _maps(value: Any) -> Sequence[Tensor]:
    return (value,) if isinstance(value, Tensor) else value
