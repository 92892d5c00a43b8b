"""Which masks are compared with each other: a config's own and the standard ones."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import ConfigDict
from numpy.typing import NDArray

from det_distill.masks import AnchorIoUMask, FullMask, GtBoxMask, Mask, PointMask
from det_distill.scene import Level, Scene


@dataclass(frozen=True)
class Contender:
    """A mask under comparison.

    Attributes:
        title: What it is called.
        mask: Where it is on.
        strides: The levels it is used on; None for all.
        own: Whether it is one of the config's own terms.
    """

    title: str
    mask: Mask
    strides: Sequence[int] | None = None
    own: bool = False

    def on(self, scene: Scene, levels: Sequence[Level]) -> list[NDArray[np.bool_] | None]:
        """The (H, W) cells on of a scene's only image, per level; None on a level that is not compared.

        The mask sees the compared levels only, as in training: a box's level depends on how many there are.
        """
        compared = [self.strides is None or level.stride[0] in self.strides for level in levels]
        found = iter(self.mask(scene, [level for level, is_so in zip(levels, compared, strict=True) if is_so]))
        return [next(found)[0].numpy() if is_so else None for is_so in compared]


def prior_generator(student: ConfigDict) -> Any:
    """The anchors, or the points, of a detector's config.

    Raises:
        ValueError: It has neither.
    """
    for head in (student[name] for name in ("rpn_head", "bbox_head") if name in student):
        if anchors := _said(head, "anchor_generator"):
            return TASK_UTILS.build(anchors)
        if strides := _said(head, "strides"):
            return TASK_UTILS.build(dict(type="MlvlPointGenerator", strides=strides))
    raise ValueError(
        "model: want rpn_head.anchor_generator, bbox_head.anchor_generator or bbox_head.strides, found none in "
        f"{student.get('type')}"
    )


def _said(head: ConfigDict, key: str) -> Any:
    """What a head's config says, or else its class's default, as of YOLOX's strides; None where neither does."""
    if key in head:
        return head[key]
    kind = head.get("type")
    for one in getattr(MODELS.get(kind) if kind and isinstance(kind, str) else kind, "__mro__", ()):
        known = inspect.signature(one).parameters
        if key in known:
            return None if known[key].default is inspect.Parameter.empty else known[key].default
        if not any(each.kind == inspect.Parameter.VAR_KEYWORD for each in known.values()):
            return None  # nothing is handed on to the classes before
    return None


def own_contenders(model: ConfigDict, known: Sequence[int]) -> list[Contender]:
    """The mask of each FeatureImitation term, if the model is a Distiller.

    Args:
        model: The config's model.
        known: The strides of the student's levels.

    Raises:
        ValueError: A term compares none of them.
    """
    if model.type != "Distiller":
        return []
    own = []
    for name, term in (model.get("terms") or {}).items():
        if term and term.get("type") == "FeatureImitation" and term.get("mask"):
            strides = term.get("strides")
            if strides is not None and not set(strides) & set(known):
                raise ValueError(f"model.terms.{name}.strides: want some of {list(known)}, got {list(strides)}")
            title = f"this config's term {name!r}: {_spell(term.mask)}"
            own.append(Contender(title, TASK_UTILS.build(term.mask), strides, own=True))
    return own


def _spell(mask: ConfigDict) -> str:
    return ", ".join([str(mask.type), *(f"{key} {value}" for key, value in mask.items() if key != "type")])


def near(psi: Sequence[float]) -> list[Contender]:
    """The anchor-IoU mask at each psi."""
    return [Contender(f"AnchorIoUMask, psi {p:g}", AnchorIoUMask(psi=p)) for p in psi]


def fixed(points: bool = False) -> list[Contender]:
    """The standard masks without a psi; of points as well, where the student judges points."""
    found = [Contender("GtBoxMask", GtBoxMask()), Contender("FullMask", FullMask())]
    return [Contender("PointMask", PointMask()), *found] if points else found
