"""VGG for Faster R-CNN (Simonyan and Zisserman, 2015; Ren et al., 2015): any depth, any width down to 1/32.

Why: mmcv's VGG has no width and returns a bare tensor where it has one output; a detector wants a tuple. The
modules here are numbered as torchvision numbers them, so its ImageNet weights load by name.
"""

from collections.abc import Sequence
from itertools import pairwise

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
WIDTHS = tuple(2.0**-k for k in range(6))


def _check(key: str, found: float, known: Sequence[float]) -> None:
    if found not in known:
        nearest = min(known, key=lambda value: abs(value - found))
        expected = ", ".join(map(str, known))
        raise ValueError(f"VGGBackbone {key}: found {found!r}, expected one of {expected}; nearest: {nearest}")


@MODELS.register_module()
class VGGBackbone(BaseModule):
    """The convolutions of VGG without the last pool: conv5 has stride 16.

    Args:
        depth: 11, 13, 16 or 19.
        width: 1, 1/2, 1/4, 1/8, 1/16 or 1/32; multiplies every layer's channels.
        out_indices: The blocks (0 to 4) whose last map is returned, after its ReLU and before its pool: strides 1, 2,
            4, 8, 16.
        frozen_stages: The first so many blocks get no gradient.
        init_cfg: MMEngine initialisation; `dict(type="Pretrained", checkpoint="torchvision://vgg16")` loads by name.
            Kaiming by default.

    Raises:
        ValueError: If depth, width, an index or the number of frozen blocks is unknown, or torchvision's weights (all
            of width 1) are asked for at another width, which MMEngine would skip with a mere warning.
    """

    def __init__(
        self,
        depth: int,
        width: float = 1,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = 0,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        _check("depth", depth, tuple(BLOCKS))
        _check("width", width, WIDTHS)
        _check("frozen_stages", frozen_stages, range(6))
        for index in out_indices:
            _check("out_indices", index, range(5))
        for init in init_cfg if isinstance(init_cfg, list) else [init_cfg or {}]:
            if width != 1 and str(init.get("checkpoint", "")).startswith("torchvision://"):
                raise ValueError(f"VGGBackbone width: found {width}, expected 1 to load {init['checkpoint']}")
        self.out_indices = tuple(out_indices)
        layers: list[nn.Module] = []
        self.ends: list[int] = []  # one past the last ReLU of each block
        cin = 3
        for block, (full, convs) in enumerate(zip(CHANNELS, BLOCKS[depth], strict=True)):
            cout = int(full * width)
            for _ in range(convs):
                layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True)]
                cin = cout
            self.ends.append(len(layers))
            if block < 4:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        for layer in self.features[: self.ends[frozen_stages - 1] if frozen_stages else 0]:
            layer.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to one (B, C, H / stride, W / stride) map per index of `out_indices`, finest first."""
        maps, start = [], 0
        for end in self.ends:
            x = self.features[start:end](x)
            maps.append(x)
            start = end
        return tuple(maps[index] for index in sorted(self.out_indices))


@MODELS.register_module()
class VGGClassifier(BaseModule):
    """fc6 and fc7 of VGG, run on every RoI: a shared head, as the last stage of a ResNet is in a C4 detector.

    Args:
        in_channels: Channels of the RoI map; 512 at width 1.
        out_channels: Units of each layer.
        roi_feat_size: Side of the square RoI map, in cells.
        dropout: Probability that a unit is dropped in training.
        init_cfg: As for `VGGBackbone`; the original starts from ImageNet's fc6 and fc7.
    """

    def __init__(
        self,
        in_channels: int = 512,
        out_channels: int = 4096,
        roi_feat_size: int = 7,
        dropout: float = 0.5,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Xavier", layer="Linear", distribution="uniform"))
        sizes = (in_channels * roi_feat_size**2, out_channels, out_channels)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, roi_feat_size, roi_feat_size) to (N, out_channels)."""
        return self.classifier(x.flatten(1))
