"""A student that begins as a part of its teacher: weight selection.

Xu et al., "Initializing Models with Larger Ones" (ICLR 2024, arXiv:2311.18823), section 3: layers of the same place,
and of each the first so many channels, everywhere the same ones ("consecutive" there), so that what one layer gives is
what the next was trained on. A batch norm makes up for the missing summands of the layer before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmdet.registry import TASK_UTILS
from mmengine.logging import print_log
from torch import Tensor, nn

from det_distill.building import build
from det_distill.inheritance.channels import channels_of
from det_distill.inheritance.places import Counterparts, Origin
from det_distill.inheritance.reconstruction import Reconstruction
from det_distill.inheritance.sorting import sort_channels
from det_distill.refusals import blamed, choice, suggestion
from det_distill.teachers.faculty import Faculty
from det_distill.views.base import TRUNK, View
from det_distill.views.taps import below

CHANNELS = ("first", "heaviest")


@TASK_UTILS.register_module()
class WeightSelection:
    """Gives a student's layers the first channels of its teacher's layers of the same name.

    A layer is inherited whole or not at all: it keeps its own initialisation where the teacher has none of that name,
    a narrower one, or one of another kernel. Where maps lie side by side it has the first channels of each. Necks that
    count their levels from different ones on are matched level by level (see `twins`), so a RetinaNet has what a Faster
    R-CNN has before its heads.

    Args:
        teacher: Whose weights, of several teachers; by default the first's.
        skip: Dotted paths of the student's modules that keep their own initialisation.
        channels: "first", those of the first numbers, as in the paper; or the "heaviest", for which the teacher's
            channels are sorted in memory, wherever that changes nothing of what it computes (`sort_channels`).
        reconstruct: `dict(images=96, rows=20000, ridge=0.01)`, or some of it: the layers are then fitted to what the
            teacher's give on training images, before the first step (see `Reconstruction`). None leaves them be.
    """

    def __init__(
        self,
        teacher: str | None = None,
        skip: Sequence[str] = (),
        channels: str = "first",
        reconstruct: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(skip, str) or not all(isinstance(one, str) for one in skip):
            raise ValueError(f"skip={skip!r:.80}; a list of dotted paths of the student's modules is expected")
        self.teacher, self.skip, self.channels = teacher, tuple(skip), choice("channels", channels, CHANNELS)
        self.reconstruct = None if reconstruct is None else Reconstruction.from_config(reconstruct)
        self.counterparts: Counterparts  # `check` finds them

    def check(self, student: View, teachers: Faculty) -> None:
        """Whether there is anything to inherit.

        Raises:
            ValueError: The teacher or a skipped module is unknown, no layer is skipped though the two have other
                classes or anchors and layers behind the neck are inherited, or no layer fits.
        """
        if self.teacher is not None:
            choice("teacher", self.teacher, teachers)
        modules = dict(student.detector.named_modules())
        for path in self.skip:
            if path not in modules:
                raise ValueError(f"skip names '{path}', no module of the student{suggestion(path, modules)}")
        source = self.source(teachers).view
        self.counterparts = Counterparts(channels_of(student), channels_of(source))
        found = dict(self.selected(student.detector, teachers))
        if not found:
            raise ValueError("no layer of the student has a teacher's of its name that is as wide or wider")
        if self.skip or all(path.split(".")[0] in TRUNK for path in found):
            return
        for what, its, own in (
            ("classes", source.classes, student.classes),
            ("anchors a cell", *(getattr(view.priors, "num_base_priors", None) for view in (source, student))),
            ("bins of a distance", *(getattr(view.grid_head, "reg_max", None) for view in (source, student))),
        ):
            if its != own:
                raise ValueError(
                    f"the teacher has {its} {what}, the student {own}: name the layers that judge them in skip, as "
                    "['roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg']"
                )

    def selected(self, student: nn.Module, teachers: Faculty) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each layer that inherits, with the parts of the teacher's weights that fit it."""
        source = dict(self.source(teachers).detector.named_modules())
        for path, layer in student.named_modules():
            own, its = _own(layer), self.counterparts.its(path)
            if not own or its not in source or below(path, self.skip):
                continue
            given = _own(source[its])
            weights = {name: f"{path}.{name}" if name.startswith("in_proj") else path for name in own if name in given}
            parts = {name: self.counterparts.part(of, given[name], own[name].shape) for name, of in weights.items()}
            found = {name: one for name, one in parts.items() if one is not None}
            if found.keys() == own.keys():
                yield path, found

    def origins(self, student: nn.Module, teachers: Faculty) -> dict[str, Origin]:
        """Where each layer that inherits, and runs where boxes are found, comes from."""
        found = {path: self.counterparts.origin(path) for path, _ in self.selected(student, teachers)}
        return {path: one for path, one in found.items() if one is not None}

    def __call__(self, student: nn.Module, teachers: Faculty) -> None:
        """Overwrite the student's weights, and log how many layers inherit."""
        layers = dict(student.named_modules())
        for path, found in self.selected(student, teachers):
            for name, value in _own(layers[path]).items():
                value.copy_(found[name])
        print_log(f"the student {self.told(student, teachers)}", "current")

    def told(self, student: nn.Module, teachers: Faculty) -> str:
        """How much is inherited, in words."""
        count = sum(1 for _ in self.selected(student, teachers))
        whole = sum(1 for one in student.modules() if _own(one))
        name = f" {self.teacher}" if self.teacher else ""
        more = f", fitted to it on {self.reconstruct.images} images" if self.reconstruct else ""
        return f"begins with the {self.channels} channels of {count} of {whole} layers of the teacher{name}{more}"

    def source(self, teachers: Faculty) -> Any:
        """The teacher whose weights they are."""
        return teachers.first if self.teacher is None else teachers[self.teacher]


def selection_of(cfg: Mapping[str, Any], student: View, teachers: Faculty) -> WeightSelection:
    """A Distiller's `init_cfg`.

    Raises:
        ValueError: It is of another type, which belongs into the student's own config, or fits the two nets nowhere.
    """
    with blamed("Distiller.init_cfg"):
        if not isinstance(cfg, Mapping):
            raise ValueError(f"{cfg!r:.80}; a dict is expected")
        if cfg.get("type") != WeightSelection.__name__:
            raise ValueError(
                f"type={cfg.get('type')!r}; 'WeightSelection', others belong into the student's own config"
            )
        selection: WeightSelection = build(TASK_UTILS, cfg)
        selection.check(student, teachers)
        if selection.channels == "heaviest":
            sort_channels(selection.source(teachers).view, selection.counterparts.teacher)
    return selection


def _own(layer: nn.Module) -> dict[str, Tensor]:
    """A layer's own weights and statistics, as its state dict holds them, without those of the layers below it."""
    state: Mapping[str, Tensor] = layer.state_dict()
    return {name: state[name] for name in state if "." not in name}
