"""A detector as an ONNX graph, held against torch before it is kept.

Why a trace: torch.export cannot follow a two-stage detector, whose boxes are as many as the image has. A trace can,
once nothing in it branches on the data: the RoIs of all levels take one path, and small boxes are left out by index.
"""

import copy
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.onnx import register_custom_op_symbolic, symbolic_helper

from det_distill.scene import whole_image

OPSET = 17
OUTPUTS = ("boxes", "scores", "labels")
PIXELS, SCORE = 0.05, 1e-3  # within which a detection of the graph is torch's
SHARE = 0.02  # of detections that may differ: NMS decides some by a hair, and sums are rounded in another order


def export_onnx(detector: Any, shape: tuple[int, int], path: Path, images: Iterable[Tensor]) -> str:
    """Write the graph from a preprocessed image to its detections, once it says the same as torch of every image.

    Input `image` is (1, 3, H, W), normalised and padded to the one size of the graph; outputs are `boxes` (N, 4) in
    its pixels, `scores` (N,) and `labels` (N,), as `predict` has them.

    Args:
        detector: A two-stage detector, or one with `SingleRoIExtractor` over RoIAlign.
        shape: Height and width of the input.
        path: The file; it appears only if the check holds.
        images: (1, 3, H, W) each, to check with; the first is traced.

    Returns:
        How well the graph agrees with torch, in words.

    Raises:
        ValueError: onnx or onnxruntime is not installed, the detector has a part that ONNX has no operator for, or the
            graph says something else than torch; says by how much.
    """
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise ValueError(f"--onnx needs the package {package}: pip install onnx onnxruntime")
    extractor = getattr(getattr(detector, "roi_head", None), "bbox_roi_extractor", None)
    if not isinstance(detector, TwoStageDetector) or type(extractor) is not SingleRoIExtractor:
        raise ValueError(
            f"--onnx: a {type(detector).__name__} with {type(extractor).__name__} has no ONNX operators; a two-stage "
            "detector with SingleRoIExtractor over RoIAlign is expected"
        )
    import onnxruntime

    graph = _Graph(copy.deepcopy(detector), shape).eval()
    register_custom_op_symbolic("torchvision::roi_align", _roi_align, 16)
    part = path.with_name(path.name + ".part")
    batch = list(images)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of branches that a trace fixes; whether they matter is checked below
        traced = torch.jit.trace(graph, (batch[0],), check_trace=False)
        torch.onnx.export(
            traced, (batch[0],), str(part), dynamo=False, opset_version=OPSET, input_names=["image"],
            output_names=list(OUTPUTS), dynamic_axes={name: {0: "detections"} for name in OUTPUTS},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
    lost = total = 0
    for image in batch:
        own = _detections(detector, image, shape)
        found = [torch.from_numpy(one) for one in session.run(None, {"image": image.numpy()})]
        lost += _without_twin(own, found) + _without_twin(found, own)
        total += len(own[0]) + len(found[0])
    said = f"{lost} of {total} detections on {len(batch)} images are torch's or the graph's alone"
    if lost > SHARE * total:
        part.unlink()
        raise ValueError(f"--onnx: {said}, by more than {PIXELS} px or {SCORE}; at most {SHARE:.0%} are accepted")
    part.replace(path)
    return said


@torch.no_grad()
def _detections(detector: Any, image: Tensor, shape: tuple[int, int]) -> list[Tensor]:
    """What the detector itself says of one image."""
    [sample] = detector.predict(image, [whole_image(shape)], rescale=False)
    found = sample.pred_instances
    return [found.bboxes, found.scores, found.labels]


def _without_twin(some: list[Tensor], others: list[Tensor]) -> int:
    """How many detections are not among the others, in any place: equal scores have no order."""
    boxes = (some[0][:, None] - others[0]).abs().amax(dim=2) if len(others[0]) else some[0].new_zeros(len(some[0]), 0)
    scores = (some[1][:, None] - others[1]).abs()
    same = (boxes <= PIXELS) & (scores <= SCORE) & (some[2][:, None] == others[2])
    return int((~same.any(dim=1)).sum())


class _Graph(nn.Module):
    """`predict` of one image without lists and branches."""

    def __init__(self, detector: Any, shape: tuple[int, int]) -> None:
        super().__init__()
        self.detector, self.sample = detector, whole_image(shape)
        rpn = detector.rpn_head.test_cfg
        self.least, self.most = max(0, rpn.get("min_bbox_size", 0)), rpn.max_per_img
        rpn.update(min_bbox_size=-1, max_per_img=1 << 30)  # its filter branches; `forward` has one that does not
        head = detector.roi_head
        for layer in head.bbox_roi_extractor.roi_layers:
            layer.use_torchvision = True  # the same operator, with one name for both
        if len(head.bbox_roi_extractor.roi_layers) > 1:
            head.bbox_roi_extractor = _AllLevels(head.bbox_roi_extractor)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head = self.detector.roi_head
        maps = self.detector.extract_feat(image)
        [proposals] = self.detector.rpn_head.predict(maps, [self.sample], rescale=False)
        boxes = proposals.bboxes  # best first; those without an area, which suppress none, are still among them
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2] > self.least).all(dim=1)][: self.most]
        rois = torch.cat((boxes.new_zeros(boxes.shape[0], 1), boxes), dim=1)
        seen = head._bbox_forward(maps, rois)
        found = head.bbox_head._predict_by_feat_single(
            roi=rois, cls_score=seen["cls_score"], bbox_pred=seen["bbox_pred"], img_meta=self.sample.metainfo,
            rescale=False, rcnn_test_cfg=head.test_cfg,
        )  # fmt: skip
        return found.bboxes, found.scores, found.labels


class _AllLevels(nn.Module):
    """Pools every RoI on every level and keeps its own, so that a level without a box in the traced image is there."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor, self.num_inputs = extractor, extractor.num_inputs

    def forward(self, maps: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        levels = self.extractor.map_roi_levels(rois, len(maps))
        pooled = []
        for index, layer in enumerate(self.extractor.roi_layers):
            mine = (levels == index).to(rois.dtype)[:, None]
            pooled.append(layer(maps[index], rois * mine) * mine[:, :, None, None])
        return torch.stack(pooled).sum(dim=0)


@symbolic_helper.parse_args("v", "v", "f", "i", "i", "i", "i")
def _roi_align(g: Any, maps: Any, rois: Any, scale: float, height: int, width: int, ratio: int, aligned: int) -> Any:
    """ONNX's RoiAlign. torchvision's own translation writes a Squeeze that opset 13 and later refuse."""
    first, rest, flat = (g.op("Constant", value_t=torch.tensor(value)) for value in ([0], [1, 2, 3, 4], [-1]))
    image = g.op("Cast", g.op("Reshape", g.op("Gather", rois, first, axis_i=1), flat), to_i=7)  # int64
    return g.op(
        "RoiAlign", maps, g.op("Gather", rois, rest, axis_i=1), image, spatial_scale_f=scale, output_height_i=height,
        output_width_i=width, sampling_ratio_i=max(ratio, 0),
        coordinate_transformation_mode_s="half_pixel" if aligned else "output_half_pixel",
    )  # fmt: skip
