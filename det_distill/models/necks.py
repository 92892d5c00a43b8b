"""Necks that MMDetection lacks: twice the resolution, and features on a coarse grid."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from det_distill.quantise import Quantiser
from det_distill.state import rename, without


@MODELS.register_module()
class UpsampleNeck(BaseModule):
    """Doubles each map's size, so that a net fed half-size images has the grid of one fed full-size images.

    Per level, with weights of its own: a deconvolution, ReLU, and a 3x3 convolution (Li et al., CVPR 2017, mimic over
    scales; kernel 4 and the ReLU are ours). It stays at inference: the RPN sits after it.

    Args:
        in_channels: Channels of every map.
        out_channels: Channels of every map returned.
        levels: How many maps there are: 1 for a backbone with a single output, `num_outs` after an FPN.
        init_cfg: MMEngine initialisation, Kaiming by default.
    """

    def __init__(
        self, in_channels: int, out_channels: int, levels: int = 1, init_cfg: dict | list | None = None
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer=["Conv2d", "ConvTranspose2d"]))
        self.in_channels = in_channels
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            )
            for _ in range(levels)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W) per level to (B, out_channels, 2H, 2W).

        Raises:
            ValueError: Number of maps or their channels are not those of the config.
        """
        if len(maps) != len(self.levels):
            raise ValueError(f"UpsampleNeck levels: found {len(self.levels)}, expected {len(maps)}, the maps it is fed")
        for one in maps:
            if one.shape[1] != self.in_channels:
                raise ValueError(
                    f"UpsampleNeck in_channels: found {self.in_channels}, expected {one.shape[1]}, the maps' channels"
                )
        return tuple(level(one) for level, one in zip(self.levels, maps, strict=True))


@MODELS.register_module()
class QuantisedNeck(BaseModule):
    """Another neck, whose maps are rounded to a grid (Wei et al., ECCV 2018) with the gradient of the identity.

    Its weights have the names they have in the inner neck, so a detector trained without rounding loads strictly,
    is fine-tuned with it, and loads back.

    Args:
        inner: Config of the neck, or of several in a list; None rounds the backbone's maps.
        step: Distance of neighbouring values, activation units.
        signed: Keep negative values, as a pyramid's levels have them; otherwise they become 0.

    Raises:
        ValueError: If the step is not a positive, finite number.
    """

    def __init__(self, inner: dict | list | None = None, step: float = 1.0, signed: bool = False) -> None:
        super().__init__()
        self.inner = nn.Identity() if inner is None else MODELS.build(inner)
        self.quantiser = Quantiser(step, signed)
        self._register_state_dict_hook(_show_inner)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The inner neck's maps, each value a multiple of the step."""
        return tuple(self.quantiser(one) for one in self.inner(maps))

    def _load_from_state_dict(self, state_dict: MutableMapping[str, Any], prefix: str, *args: Any) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f"{prefix}inner.{key[len(prefix) :]}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _show_inner(_neck: nn.Module, state: MutableMapping[str, Any], prefix: str, _metadata: Any) -> None:
    """`<prefix>inner.x` becomes `<prefix>x`."""
    rename(state, lambda key: without(key, prefix, "inner."))
