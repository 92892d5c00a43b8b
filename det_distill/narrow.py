"""A narrower model of the same layers, out of a detector's config: nobody types channels."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import gcd
from numbers import Real
from typing import Any

from det_distill.refusals import choice

BASED = ("ResNet", "ResNetV1d", "ResNetStage")  # all their widths follow `base_channels`
BASE = 64  # its default
APART = ("data_preprocessor", "train_cfg", "test_cfg")


@dataclass(frozen=True)
class Widths:
    """Numbers of channels at one key of a config, one or several."""

    part: dict[str, Any]
    key: str
    path: str

    @property
    def counts(self) -> list[int]:
        found = self.part[self.key]
        return list(found) if isinstance(found, list | tuple) else [found]

    def narrow(self, width: float) -> None:
        counts = [round(width * count) for count in self.counts]
        self.part[self.key] = counts[0] if isinstance(self.part[self.key], int) else counts


def narrowed(model: Mapping[str, Any], width: float) -> dict[str, Any]:
    """The config of a model with `width` times the channels of every layer, but for those of images and predictions.

    Every layer of it learns: published weights do not fit its backbone, so none are loaded or frozen there, and batch
    norms go by their batches.

    Args:
        model: A detector's, on a ResNet.
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
    choice("beside student.width, the student's backbone.type", _kind(model.get("backbone")), BASED[:2])
    found = [*_widths(model, "")]
    common = gcd(*(count for one in found for count in one.counts))
    for one in found:
        for count in one.counts:
            if not _whole(width * count):
                nearest = max(1, round(width * common)) / common
                raise ValueError(
                    f"student.width={width}: {one.path}={count} would be {width * count:g}; the nearest width at "
                    f"which every layer has whole channels is {nearest:g}"
                )
    for one in found:
        one.narrow(width)
        if _kind(one.part) in BASED:
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
    based = _kind(part) in BASED
    if based:
        part.setdefault("base_channels", BASE)
    for key, value in part.items():
        here = f"{path}.{key}" if path else key
        if key in APART:
            continue
        for below in value if isinstance(value, list | tuple) else [value]:  # necks may be several
            if isinstance(below, dict):
                yield from _widths(below, here)
        if key.endswith("channels") and not (based and key == "in_channels"):
            one = Widths(part, key, here)
            if all(type(count) is int for count in one.counts):  # anything else is left to who builds the model
                yield one


def _let_learn(backbone: dict[str, Any]) -> None:
    backbone.update(norm_eval=False, init_cfg=None)
    if "frozen_stages" in backbone:
        backbone["frozen_stages"] = -1
    if "norm_cfg" in backbone:
        backbone["norm_cfg"]["requires_grad"] = True
