"""The last stage of a ResNet as a shared RoI head, at any width."""

from mmdet.models.backbones import ResNet
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


@MODELS.register_module()
class ResNetStage(BaseModule):
    """The last stage of a ResNet of any base width, run on every RoI: the shared head of a C4 detector.

    Why: MMDetection's own shared head, `ResLayer`, is fixed at 64 base channels, so it fits no half-width ResNet.

    Args:
        depth: 50, 101 or 152; all have three blocks here.
        base_channels: Width of the ResNet's first stage; takes 16 times as many channels and returns 32 times.
        style: "caffe" strides in the first 1x1 convolution, "pytorch" in the 3x3.
        norm_cfg: Normalisation layers, by default batch normalisation that learns.
        norm_eval: Whether batch normalisation keeps the statistics it was loaded with.
        init_cfg: MMEngine initialisation, by default Kaiming and ones.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        style: str = "pytorch",
        norm_cfg: dict | None = None,
        norm_eval: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            init_cfg or [dict(type="Kaiming", layer="Conv2d"), dict(type="Constant", val=1, layer="_BatchNorm")]
        )
        if depth not in (50, 101, 152):
            raise ValueError(f"ResNetStage depth: found {depth!r}, expected 50, 101 or 152")
        block, blocks = ResNet.arch_settings[depth]
        self.norm_eval = norm_eval
        self.layer4 = ResLayer(
            block,
            inplanes=4 * base_channels * block.expansion,
            planes=8 * base_channels,
            num_blocks=blocks[3],
            stride=2,
            style=style,
            norm_cfg=norm_cfg or dict(type="BN"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 16 base_channels, H, W) to (N, 32 base_channels, ceil(H / 2), ceil(W / 2))."""
        return self.layer4(x)

    def train(self, mode: bool = True) -> "ResNetStage":
        """As in MMDetection's ResNet: with `norm_eval`, batch normalisation stays in eval mode."""
        super().train(mode)
        for module in self.modules():
            if self.norm_eval and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self
