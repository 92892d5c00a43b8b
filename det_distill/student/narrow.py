"""A narrower model of the same layers, out of a detector's config: nobody types channels."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import gcd
from numbers import Real
from typing import Any

from det_distill.refusals import choice

# What all widths of a part follow: the key, its default, and how many channels 1 of it stands for.
BASES = {
    "ResNet": ("base_channels", 64, 1),
    "ResNetV1d": ("base_channels", 64, 1),
    "CSPNeXt": ("widen_factor", 1.0, 32),  # half its stem's
    "CSPDarknet": ("widen_factor", 1.0, 64),
    "ResNetStage": ("base_channels", 64, 1),
}
BACKBONES = ("ResNet", "ResNetV1d", "CSPNeXt", "CSPDarknet")
APART = ("data_preprocessor", "train_cfg", "test_cfg")


@dataclass(frozen=True)
class Widths:
    """Numbers of channels at one key of a config, one or several, or a factor of such."""

    part: dict[str, Any]
    key: str
    path: str
    unit: int = 1

    @property
    def counts(self) -> list[int]:
        found = self.part[self.key]
        if self.unit > 1 and isinstance(found, Real):
            return [round(self.unit * float(found))]
        return list(found) if isinstance(found, list | tuple) else [found]

    def narrow(self, width: float) -> None:
        found = self.part[self.key]
        if self.unit > 1:
            self.part[self.key] = found * width
        else:
            counts = [round(width * count) for count in self.counts]
            self.part[self.key] = counts if isinstance(found, list | tuple) else counts[0]


def narrowed(model: Mapping[str, Any], width: float) -> dict[str, Any]:
    """The config of a model with `width` times the channels of every layer, but for those of images and predictions.

    Every layer of it learns: published weights do not fit its backbone, so none are loaded or frozen there, and batch
    norms go by their batches.

    Args:
        model: A detector's, on a ResNet, a CSPNeXt or a CSPDarknet.
        width: Above 0, at most 1; at 1 the model is left as it is.

    Raises:
        ValueError: A layer would have no whole number of channels, names the nearest width at which all have; or the
            model's widths do not lie in its config.
    """
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < width <= 1:
        raise ValueError(f"student.width={width!r:.80}; a number above 0 and at most 1 is expected")
    model = deepcopy(dict(model))
    if width == 1:
        return model
    choice("beside student.width, the student's backbone.type", _kind(model.get("backbone")), BACKBONES)
    found = [*_widths(model, "")]
    common = gcd(*(count for one in found for count in one.counts))
    for one in found:
        for count in one.counts:
            if not _whole(width * count):
                nearest = max(1, round(width * common)) / common
                raise ValueError(
                    f"student.width={width}: {count} channels by {one.path} would be {width * count:g}; the nearest "
                    f"width at which every layer has whole ones is {nearest:g}"
                )
    for one in found:
        one.narrow(width)
        if _kind(one.part) in BASES:
            _let_learn(one.part)
    return model


def _kind(part: Any) -> str:
    return str(part.get("type")).rpartition(".")[2] if isinstance(part, Mapping) else ""


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _widths(part: dict[str, Any], path: str) -> Iterator[Widths]:
    """All numbers of channels below, but for an image's."""
    if _kind(part) == "ResLayer":
        raise ValueError(
            f"student.width: {path} is a ResLayer, which has one width only; "
            "det_distill.models.res_stage.ResNetStage is the same at any (base_channels)"
        )
    base, default, unit = BASES.get(_kind(part), ("", None, 1))
    if base:
        part.setdefault(base, default)
        yield from _numbers(Widths(part, base, f"{path}.{base}", unit))
    for key, value in part.items():
        here = f"{path}.{key}" if path else key
        if key in APART:
            continue
        for below in value if isinstance(value, list | tuple) else [value]:  # necks may be several
            if isinstance(below, dict):
                yield from _widths(below, here)
        if key.endswith("channels") and not (base and key in (base, "in_channels")):
            yield from _numbers(Widths(part, key, here))


def _numbers(found: Widths) -> Iterator[Widths]:
    """It, if it holds whole numbers; anything else is left to who builds the model."""
    if all(type(count) is int for count in found.counts):
        yield found


def _let_learn(backbone: dict[str, Any]) -> None:
    backbone["norm_eval"] = False
    if _kind(backbone.get("init_cfg")) == "Pretrained":
        del backbone["init_cfg"]
    if "frozen_stages" in backbone:
        backbone["frozen_stages"] = -1
    if "norm_cfg" in backbone:
        backbone["norm_cfg"]["requires_grad"] = True
