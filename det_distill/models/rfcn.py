"""R-FCN (Dai et al., NIPS 2016, arXiv:1605.06409) as a stock MMDetection detector.

Convolutions alone score every cell of the image, once for each class and each of the k x k parts of a box; a RoI
pools each of its bins from the maps of that part, and the bins vote. No layer with weights runs per RoI.

Why the RPN shares the RoI head's map: so a stock `TwoStageDetector` runs it unchanged. The paper's RPN sits on res4,
before the dilated stage.
"""

import difflib
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import PSRoIAlign, PSRoIPool

POOLINGS = {"PSRoIAlign": PSRoIAlign, "PSRoIPool": PSRoIPool}


@MODELS.register_module()
class PSRoIExtractor(SingleRoIExtractor):
    """Position-sensitive score maps by 1x1 convolutions, and what each RoI pools from them.

    Args:
        roi_layer: `dict(type="PSRoIAlign", output_size=7, sampling_ratio=2)` or `dict(type="PSRoIPool",
            output_size=7)`, the paper's; torchvision's operators. `output_size` is the paper's k. torchvision's
            PSRoIPool never reads the last row and column of a map.
        in_channels: Channels of the maps; the convolutions are shared by all levels.
        featmap_strides: Pixels a cell, per level.
        cls_channels: Scores of a RoI, background included; `RFCNRoIHead` fills it in.
        reg_channels: Box deltas of a RoI, 4 or 4 per class; `RFCNRoIHead` fills it in.
        finest_scale: With several levels, RoIs of less than twice so many pixels a side go to the first.
        init_cfg: MMEngine initialisation; normal with std 0.01, as in the authors' code.

    Raises:
        ValueError: Another type of `roi_layer`, or no `sampling_ratio` above 0 where one is needed.
    """

    def __init__(
        self,
        roi_layer: dict,
        in_channels: int,
        featmap_strides: list[int],
        cls_channels: int,
        reg_channels: int,
        finest_scale: int = 56,
        init_cfg: dict | list | None = None,
    ) -> None:
        init_cfg = init_cfg or dict(type="Normal", layer="Conv2d", std=0.01)
        super().__init__(roi_layer, cls_channels + reg_channels, featmap_strides, finest_scale, init_cfg)
        height, width = self.roi_layers[0].output_size
        self.in_channels = in_channels
        self.conv_cls = nn.Conv2d(in_channels, height * width * cls_channels, 1)
        self.conv_reg = nn.Conv2d(in_channels, height * width * reg_channels, 1)

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: list[int]) -> nn.ModuleList:
        """One pooling per level, from torchvision: mmcv has none."""
        cfg = dict(layer_cfg)
        name = cfg.pop("type")
        if name not in POOLINGS:
            near = difflib.get_close_matches(str(name), POOLINGS, n=1, cutoff=0)[0]
            raise ValueError(
                f"PSRoIExtractor roi_layer.type: found {name!r}, expected one of {', '.join(POOLINGS)}; nearest: {near}"
            )
        if name == "PSRoIAlign" and not cfg.get("sampling_ratio", 0) > 0:  # as many as there are cells: 0/0 = NaN
            raise ValueError(
                f"PSRoIExtractor roi_layer.sampling_ratio: found {cfg.get('sampling_ratio')!r}, expected at least 1 "
                "point a side and bin; nearest: 1"
            )
        cfg["output_size"] = _pair(cfg["output_size"])
        return nn.ModuleList(POOLINGS[name](spatial_scale=1 / stride, **cfg) for stride in featmap_strides)

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pool position-sensitive scores and deltas.

        Args:
            feats: (B, in_channels, H, W) per level.
            rois: (N, 5), image index and box in pixels; N may be 0.
            roi_scale_factor: With several levels, boxes grow by it, once their level is chosen, as in MMDetection.

        Returns:
            (N, cls_channels + reg_channels, k, k), at least as precise as the boxes.

        Raises:
            ValueError: The maps have other channels than `in_channels`.
        """
        scores = tuple(self.score(level).to(torch.promote_types(level.dtype, rois.dtype)) for level in feats)
        if len(scores) == 1:  # MMDetection's way cuts the graph where there is no RoI
            return self.roi_layers[0](scores[0], rois.type_as(scores[0]))
        return super().forward(scores, rois, roi_scale_factor)

    def score(self, level: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels k k, H, W); channel (c k + i) k + j is bin (i, j) of output c."""
        if level.shape[1] != self.in_channels:
            raise ValueError(
                f"PSRoIExtractor in_channels: found {self.in_channels}, expected {level.shape[1]}, the maps' channels"
            )
        return torch.cat((self.conv_cls(level), self.conv_reg(level)), dim=1)


class Vote(nn.Module):
    """The mean over bins, where `BBoxHead` has a Linear: no weights.

    Args:
        in_features: Unused; `BBoxHead` names it to whatever it builds here.
        out_features: Channels voted on.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, k, k) to (N, C)."""
        return x.mean(dim=(2, 3))


@MODELS.register_module()
class PSBBoxHead(BBoxHead):
    """Averages the votes of a RoI's bins; targets, losses and decoding are MMDetection's.

    `fc_cls` and `fc_reg` exist and vote, so whoever watches `fc_cls` finds the position-sensitive scores at its input.

    Args:
        num_classes: Without background.
        reg_class_agnostic: One box per RoI, as in the paper, or one per class.
        **other: `bbox_coder`, `loss_cls`, `loss_bbox` and the like, of `BBoxHead`.
    """

    def __init__(self, num_classes: int = 80, reg_class_agnostic: bool = True, **other: Any) -> None:
        super().__init__(
            num_classes=num_classes,
            reg_class_agnostic=reg_class_agnostic,
            cls_predictor_cfg=dict(type=Vote),
            reg_predictor_cfg=dict(type=Vote),
            **{"init_cfg": [], **other},
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, scores + deltas, k, k) to (N, num_classes + 1) logits and (N, 4 or 4 num_classes) deltas."""
        scores, deltas = x.split((self.fc_cls.out_features, self.fc_reg.out_features), dim=1)
        return self.fc_cls(scores), self.fc_reg(deltas)


@MODELS.register_module()
class RFCNRoIHead(StandardRoIHead):
    """MMDetection's RoI head, where `num_classes` and `reg_class_agnostic` of the bbox_head size the extractor.

    Raises:
        ValueError: There is a shared head, or extractor or bbox_head are not position-sensitive.
    """

    def init_bbox_head(self, bbox_roi_extractor: dict, bbox_head: dict) -> None:
        """The bbox_head first: it knows how many channels the extractor has to pool."""
        if self.with_shared_head:
            raise ValueError("RFCNRoIHead shared_head: found one, expected None; R-FCN has no layers per RoI")
        for key, cfg, expected in (
            ("bbox_roi_extractor", bbox_roi_extractor, PSRoIExtractor),
            ("bbox_head", bbox_head, PSBBoxHead),
        ):
            name = cfg["type"]
            found = MODELS.get(name) if isinstance(name, str) else name
            if found is None or not issubclass(found, expected):
                raise ValueError(f"RFCNRoIHead {key}.type: found {name!r}, expected '{expected.__name__}'")
        self.bbox_head = MODELS.build(bbox_head)
        channels = dict(
            cls_channels=self.bbox_head.fc_cls.out_features,
            reg_channels=self.bbox_head.fc_reg.out_features,
        )
        self.bbox_roi_extractor = MODELS.build(dict(bbox_roi_extractor, **channels))


@MODELS.register_module()
class RFCN(TwoStageDetector):
    """R-FCN: a two-stage detector whose `roi_head` is an `RFCNRoIHead`.

    The paper's net is a ResNet whose last stage is dilated (stride 16), a `ChannelMapper` to 1024 channels as neck,
    an RPN, and k = 7: `configs/_base_/models/rfcn_r101.py`. Hard examples are mined by MMDetection's `OHEMSampler`,
    which ranks positives and negatives apart; the paper ranks all of an image's RoIs together.
    """
