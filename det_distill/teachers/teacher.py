"""A frozen, trained detector that is watched and never learns.

Why no `nn.Module`: whatever is a submodule enters `parameters()`, `state_dict()`, DDP, EMA and the
optimiser sooner or later. A plain object cannot.

Why half precision by autocast and not by casting the weights: batch norms and box arithmetic keep fp32, and the
teacher goes on following its Distiller's `.to()` without losing a digit.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from det_distill.building import build_detector
from det_distill.configs import load_config
from det_distill.fp32 import common
from det_distill.preprocess import Renormalise
from det_distill.refusals import choice, only_keys
from det_distill.teachers.class_map import known_once, pairs_of
from det_distill.views.anatomy import Anatomy
from det_distill.views.base import View
from det_distill.views.families import view_of
from det_distill.weights import load_strictly

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILE = ("backend", "mode", "options", "dynamic")  # of torch.compile; hooks break the graph, so no `fullgraph`
KEYS = ("config", "checkpoint", "check_classes", "class_map", "precision", "compile", "channels_last")


class Teacher:
    """Built, strictly loaded, frozen, always in eval mode; follows its Distiller's device and dtype.

    Args:
        config: Path or `mmdet::name` of the teacher's config.
        checkpoint: Its weights: a file, an address, or any other name MMEngine knows.
        check_classes: Whether a number of classes other than the student's is an error.
        class_map: Of a teacher of other classes, pairs of the index of its class and of the student's; its further
            classes, and what it calls background, are all it does not know.
        precision: In which its convolutions and products compute whatever surrounds them: "bf16", "fp16", or "fp32"
            where the student trains in half precision and it shall not; what it shows is then fp32. None for that of
            the surroundings: half precision under `AmpOptimWrapper`, else the weights' own. Of a tap of Faster R-CNN
            bf16 moves at most 0.5 % of the L2 norm, fp16 0.06 %.
        compile: Whether it watches through `torch.compile`, or the arguments of that.
        channels_last: Whether its maps lie in memory with the channels last.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str,
        check_classes: bool = True,
        class_map: Sequence[tuple[int, int]] | None = None,
        precision: str | None = None,
        compile: bool | Mapping[str, Any] = False,
        channels_last: bool = False,
    ) -> None:
        self.checkpoint, self.check_classes, self.precision = checkpoint, check_classes, precision
        self.class_map = None if class_map is None else pairs_of(class_map)
        self.config = load_config(config, "teacher.config")
        self.detector: Any = build_detector(self.config.model)
        try:
            load_strictly(self.detector, checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"teacher.checkpoint: {error}. `python tools/train.py {config}` makes such weights; lay them there, or "
                "name a file or an address of yours"
            ) from error
        self.detector.eval().requires_grad_(False)
        for module in self.detector.modules():
            if isinstance(module, BaseModule):
                module._is_init = True  # else a later init_weights would overwrite what was loaded
        if channels_last:
            self.detector.to(memory_format=torch.channels_last)
        self.view = view_of(self.detector, "teacher")
        self._run = self.view.run
        if compile is not False:
            self._run = torch.compile(self._run, **({} if compile is True else compile))

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any]) -> "Teacher":
        """Build from `dict(config=..., checkpoint=...)`.

        Raises:
            ValueError: A key is missing or unknown, a value is none of its choices, or `class_map` holds no pairs.
        """
        only_keys(cfg, KEYS, "teacher")
        for key in ("config", "checkpoint"):
            if not isinstance(cfg.get(key), str):
                raise ValueError(f"teacher.{key} must be a path, found {cfg.get(key)!r}")
        if cfg.get("precision") is not None:
            choice("teacher.precision", cfg["precision"], PRECISIONS)
        compiling = cfg.get("compile", False)
        if isinstance(compiling, Mapping):
            only_keys(compiling, COMPILE, "teacher.compile")
        elif not isinstance(compiling, bool):
            raise ValueError(f"teacher.compile={compiling!r}; a bool or a dict of {', '.join(COMPILE)} is expected")
        if not isinstance(cfg.get("channels_last", False), bool):
            raise ValueError(f"teacher.channels_last={cfg['channels_last']!r}; a bool is expected")
        return cls(**cfg)

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Teacher":
        return self  # EMA copies the model; one teacher serves every copy

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow `.to()`, `.cuda()`, `.half()` of the Distiller, memory format included."""
        self.detector._apply(fn)

    def anatomy(self, names: Sequence[str]) -> Anatomy:
        """What a term may know of it before training."""
        return replace(self.view.anatomy(names), class_map=self.class_map)

    def match(self, student: View, preprocessor: nn.Module) -> None:
        """Check the classes and prepare to feed the student's batches.

        Raises:
            ValueError: The teacher tells another number of classes apart, or `class_map` names a class that is not.
        """
        its, own = self.view.classes, student.classes
        if self.class_map is not None:
            known_once(self.class_map, its, own)
        elif self.check_classes and its and own and its != own:  # a bare RPN tells none apart
            raise ValueError(
                f"the teacher knows {its} classes, the student {own}: another data set's teacher? Say which are the "
                "same by teacher.class_map=[(the teacher's, the student's), ...], or set teacher.check_classes=False "
                "where only features are compared"
            )
        self.renormalise = Renormalise(preprocessor, self.detector.data_preprocessor)

    @torch.no_grad()
    def watch(
        self, inputs: Tensor, samples: Sequence[BaseDataElement], names: Sequence[str], rois: Tensor | None
    ) -> Mapping[str, Any]:
        """What the teacher shows of the student's batch.

        Args:
            inputs: (B, 3, H, W), preprocessed for the student.
            samples: The data samples; their `img_shape` says where the padding begins.
            names: What to compute; stages nobody names do not run.
            rois: (N, 5) the student's sampled boxes, for names of the RoI stage.
        """
        self.detector.eval()
        if next(self.detector.parameters()).device != inputs.device:
            self.detector.to(inputs.device)  # a copy of the model was moved, and took it along: EMAHook(device="cpu")
        batch = self.renormalise(inputs, [sample.img_shape for sample in samples])
        with self._computing(inputs.device):
            shown: Mapping[str, Any] = self._run(batch, names, rois)
        if self.precision is not None:
            shown = {name: _widened(shown[name]) for name in names}
        if batch.shape == inputs.shape:
            return shown
        # RoI outputs are (N, ...): N may equal the batch size by chance, and they are no maps of the image.
        return {
            name: shown[name] if self.view.stage(name) == "roi" else self.renormalise.crop(shown[name], inputs, batch)
            for name in names
        }

    def _computing(self, device: torch.device) -> AbstractContextManager[Any]:
        """The precision of its own, or that of the surroundings."""
        if self.precision is None:
            return nullcontext()
        if self.precision == "fp32":
            return torch.autocast(device.type, enabled=False)
        return torch.autocast(device.type, PRECISIONS[self.precision])


def _widened(value: Any) -> Any:
    """Tensors of nested tuples in fp32 or better; integers stay."""
    if isinstance(value, Tensor):
        return value.to(common(value)) if value.is_floating_point() else value
    return tuple(_widened(part) for part in value)
