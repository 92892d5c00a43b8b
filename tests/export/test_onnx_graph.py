"""The ONNX graph says what torch says, of other images than the traced one, or is not kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor

import tiny
from det_distill.export import onnx_graph
from det_distill.export.onnx_graph import export_onnx
from det_distill.scene import whole_image

WANTED = [pytest.importorskip(name, reason="an optional package is not installed") for name in ("onnx", "onnxruntime")]
SHAPE = (96, 128)


def detector(kind: str) -> Any:
    """Weights of some size, so that scores differ and no two boxes are alike."""
    torch.manual_seed(2)
    model = MODELS.build(getattr(tiny, kind)()).eval()
    for value in model.parameters():
        value.data.copy_(0.2 * torch.randn_like(value))
    model.roi_head.test_cfg.score_thr = 0.2
    return model


def images(count: int, seed: int = 0) -> list[Tensor]:
    """Pictures of little in common: noise of different strength."""
    generator = torch.Generator().manual_seed(seed)
    return [(0.2 + index) * torch.randn(1, 3, *SHAPE, generator=generator) for index in range(count)]


@pytest.mark.parametrize("kind", ["faster_rcnn", "c4"])
def test_on_images_that_were_not_traced_the_detections_are_torch_s(tmp_path: Path, kind: str) -> None:
    model = detector(kind)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    said = export_onnx(model, SHAPE, tmp_path / "m.onnx", images(1))
    session = WANTED[1].InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for image in images(3, seed=5):
        boxes, scores, labels = session.run(None, {"image": image.numpy()})
        [sample] = model.predict(image, [whole_image(SHAPE)], rescale=False)
        own = sample.pred_instances
        assert len(own) == len(boxes) > 0
        for box, score, label in zip(own.bboxes, own.scores, own.labels, strict=True):
            gaps = [
                max((box - torch.tensor(its)).abs().max().item() / 0.05, abs(score.item() - worth) / 1e-3)
                for its, worth, kind in zip(boxes, scores.tolist(), labels.tolist(), strict=True)
                if kind == label
            ]
            assert min(gaps) <= 1
    assert said.startswith("0 of ")
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    assert model.rpn_head.test_cfg.get("min_bbox_size") == 0  # the detector itself stays as it was


def test_a_level_without_a_box_in_the_traced_image_is_in_the_graph_all_the_same() -> None:
    """Every RoI pooled on its own level, by hand, of RoIs that the module has not seen."""
    extractor = detector("faster_rcnn").roi_head.bbox_roi_extractor
    maps = [torch.randn(1, 16, 96 // s, 128 // s) for s in (4, 8, 16, 32)]
    rois = torch.tensor([[0.0, 0, 0, 20, 20], [0, 5, 5, 90, 90], [0, 0, 0, 127, 95], [0, 3, 3, 3, 3]])
    expected = extractor(maps, rois)
    assert torch.allclose(onnx_graph._AllLevels(extractor)(maps, rois), expected, atol=1e-6)


def test_a_graph_that_says_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnx_graph._AllLevels, "forward", lambda self, maps, rois, _=None: self.extractor(maps, 0 * rois)
    )
    with pytest.raises(ValueError, match=r"--onnx: \d+ of \d+ detections on 2 images are torch's or the graph's alone"):
        export_onnx(detector("faster_rcnn"), SHAPE, tmp_path / "m.onnx", images(2))
    assert not list(tmp_path.iterdir())


def test_what_onnx_has_no_operator_for_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a RFCN with PSRoIExtractor has no ONNX operators; a two-stage detector with"
    ):
        export_onnx(detector("rfcn"), SHAPE, tmp_path / "m.onnx", images(1))


def test_without_the_package_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ValueError, match=r"needs the package onnxruntime: pip install onnx onnxruntime"):
        export_onnx(detector("c4"), SHAPE, tmp_path / "m.onnx", images(1))
