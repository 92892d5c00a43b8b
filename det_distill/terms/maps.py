"""What terms of feature maps share: levels paired by stride, an adapter each, the mean over levels."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from det_distill.adapters import fitting
from det_distill.terms.base import Batch, Term
from det_distill.views.anatomy import Anatomy
from det_distill.views.comparison import Pair, paired


class MapTerm(Term):
    """The maps of one tap, level by level; a subclass says in `level` how far two maps are apart.

    Args:
        tap: A name whose value is maps: "neck", "backbone", "backbone.preactivation", or a dotted module path.
        weight: Multiplier.
        adapter: Config of the student's adapter at each level, channels inferred; None compares the maps as they are.
        strides: The student's levels to compare, where not all.
        resize: For nets of one stride fed at different scales: levels are paired by each net's own stride, and the
            student's adapted map is brought to the teacher's grid, bilinearly.
        schedule: See `Term`.
    """

    any_channels = False  # whether maps of different channels compare without an adapter

    def __init__(
        self,
        tap: str,
        weight: float,
        adapter: dict[str, Any] | None = None,
        strides: Sequence[int] | None = None,
        resize: bool = False,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.tap, self.taps, self.strides, self.resize = tap, (tap,), strides, resize
        self._adapter = adapter
        self.adapters = nn.ModuleList()
        self.pairs: list[Pair] = []

    def wire(self, student: Anatomy, teacher: Anatomy) -> None:
        self.pairs = paired(student, teacher, self.tap, self.strides, self.resize)
        for pair in self.pairs:
            free = self._adapter is None and self.any_channels
            where = f"'{self.tap}' at stride {pair.strides[0]}"
            self.adapters.append(nn.Identity() if free else fitting(self._adapter, *pair.channels, where))

    def compared(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Per level the student's adapted map and the teacher's."""
        found = []
        for adapt, (own, goal) in zip(self.adapters, self.paired(student, teacher), strict=True):
            one = adapt(own)
            found.append((F.interpolate(one, goal.shape[2:], mode="bilinear") if self.resize else one, goal))
        return found

    def paired(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Per level the student's own map and the teacher's."""
        own, its = (maps_of(side[self.tap]) for side in (student, teacher))
        return [(own[pair.places[0]], its[pair.places[1]]) for pair in self.pairs]

    def level(self, student: Tensor, teacher: Tensor) -> Tensor:
        """How far the maps (B, C_s, H, W) and (B, C_t, H, W) of one level are apart."""
        raise NotImplementedError

    def total(self, values: Sequence[Tensor]) -> Tensor:
        """One value of the levels', finest first: their mean."""
        return sum(values[1:], values[0]) / len(values)

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        return self.total([self.level(*maps) for maps in self.compared(student, teacher)])


def maps_of(value: Any) -> Sequence[Tensor]:
    """The levels that a tap shows; a module's one map is a level."""
    return (value,) if isinstance(value, Tensor) else value
