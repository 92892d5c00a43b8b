"""Feature-based knowledge: maps compared cell by cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor, nn

from det_distill.configs import build
from det_distill.losses.imitation import masked_imitation
from det_distill.masks import Mask
from det_distill.scene import levels_of, prior_strides
from det_distill.terms.base import Batch, Term
from det_distill.views.two_stage import MapSpec


@MODELS.register_module()
class FeatureImitation(Term):
    """Near objects, the student's adapted maps imitate the teacher's (Wang et al., CVPR 2019).

    The value is the mean over levels of `masked_imitation`. Levels are paired by stride.

    Args:
        tap: A name whose value is maps: "neck", "backbone", or a dotted module path.
        mask: Config of `AnchorIoUMask`, `GtBoxMask` or `FullMask`.
        weight: Per imitated cell; the source's value is 0.01.
        adapter: Config of the adapter of each level, channels inferred; None compares the maps as they are.
        schedule: See `Term`.
        strides: The levels to compare, where not all.
    """

    def __init__(
        self,
        tap: str,
        mask: dict[str, Any],
        weight: float,
        adapter: dict[str, Any] | None = dict(type="ConvAdapter", kernel=3),  # noqa: B006 - read only
        schedule: dict[str, Any] | None = None,
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        self.tap, self.taps, self.strides = tap, (tap,), strides
        self.mask: Mask = build(TASK_UTILS, mask)
        self._adapter = adapter
        self.adapters = nn.ModuleList()

    def wire(self, student: Mapping[str, Any], teacher: Mapping[str, Any], priors: Any) -> None:
        own, its = (self._levels(side[self.tap], who) for side, who in ((student, "student"), (teacher, "teacher")))
        wanted = list(self.strides) if self.strides is not None else list(own)
        common = [stride for stride in own if stride in its]
        if not wanted:
            raise ValueError(f"strides={self.strides} names no level; leave it out to compare all of '{self.tap}'")
        if (self.strides is None and set(own) != set(its)) or not set(wanted) <= set(common):
            way_out = f"set strides={common} to compare what they share" if common else "they share no stride"
            raise ValueError(
                f"'{self.tap}' has strides {list(own)} on the student and {list(its)} on the teacher, wanted {wanted}; "
                f"{way_out}"
            )
        if self.mask.needs_anchors and not set(wanted) <= set(prior_strides(priors)):
            raise ValueError(
                f"{type(self.mask).__name__} needs anchors at strides {wanted}, the student's have "
                f"{prior_strides(priors)}; set strides=, or use GtBoxMask"
            )
        self._pairs = [(own[stride][0], its[stride][0]) for stride in wanted]
        self._wanted = wanted
        for stride in wanted:
            channels = own[stride][1], its[stride][1]
            if self._adapter is not None:
                self.adapters.append(
                    build(
                        MODELS, dict(student_channels=channels[0], teacher_channels=channels[1]) | dict(self._adapter)
                    )
                )
            elif channels[0] == channels[1]:
                self.adapters.append(nn.Identity())
            else:
                raise ValueError(
                    f"'{self.tap}' at stride {stride} has {channels[0]} channels on the student and {channels[1]} on "
                    "the teacher; adapter=None needs equal ones, leave `adapter` out for a 3x3 convolution"
                )

    def _levels(self, specs: Any, side: str) -> dict[int, tuple[int, int]]:
        """Index and channels by stride."""
        if not all(isinstance(spec, MapSpec) for spec in specs):
            raise ValueError(f"'{self.tap}' shows {specs} on the {side}, not feature maps (B, C, H, W)")
        levels = {spec.stride: (index, spec.channels) for index, spec in enumerate(specs)}
        if len(levels) < len(specs):
            raise ValueError(f"'{self.tap}' shows two maps of one stride on the {side}: {[s.stride for s in specs]}")
        return levels

    def forward(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Tensor:
        own, its = (_maps(side[self.tap]) for side in (student, teacher))
        maps = [adapt(own[mine]) for adapt, (mine, _) in zip(self.adapters, self._pairs, strict=True)]
        sizes = [(int(m.shape[2]), int(m.shape[3])) for m in maps]
        levels = levels_of(batch.priors if self.mask.needs_anchors else None, sizes, self._wanted)
        masks = self.mask(batch.scene, levels)
        values = [masked_imitation(m, its[k], on) for m, (_, k), on in zip(maps, self._pairs, masks, strict=True)]
        return sum(values[1:], values[0]) / len(values)


def _maps(value: Any) -> Sequence[Tensor]:
    return (value,) if isinstance(value, Tensor) else value
