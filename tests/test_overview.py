"""The wiring as a table, its costs judged by counting each layer's multiplications by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

import tiny
from det_distill.overview import _flops, overview

ROOT = Path(__file__).parents[1]
SHAPE = (96, 128)


def written(folder: Path, **model: Any) -> str:
    teacher = tiny.write_teacher(folder, tiny.faster_rcnn(16, 24))
    cfg = Config(dict(model=tiny.distiller(tiny.faster_rcnn(), teacher, **model)))
    cfg.dump(folder / "distil.py")
    return str(folder / "distil.py")


class Multiplications:
    """2 x outputs x inputs per output, of every convolution and linear layer that runs."""

    def __init__(self, *nets: nn.Module) -> None:
        self.total, self.by_layer = 0, {}
        for net in nets:
            for name, layer in net.named_modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.register_forward_hook(self._counter(name))

    def _counter(self, name: str) -> Any:
        def count(layer: Any, _: Any, out: torch.Tensor) -> None:
            flops = 2 * out.numel() * layer.weight[0].numel()
            self.total += flops
            self.by_layer[name] = self.by_layer.get(name, 0) + flops

        return count


def test_costs_are_those_of_every_layer_forward_and_twice_backward(tmp_path: Path) -> None:
    hint = tiny.imitation(mask=dict(type="FullMask"))  # of whole maps
    model = MODELS.build(Config.fromfile(written(tmp_path, terms=dict(imitation=hint))).model)
    own = Multiplications(model.student)
    its, fits = Multiplications(model.teacher.detector), Multiplications(model.terms)
    student, teacher, step = _flops(model, SHAPE)

    # `own` saw two steps, one plain and one distilled. The image itself gets no gradient.
    assert student == (3 * own.total - own.by_layer["backbone.conv1"]) / 2
    assert teacher == its.total
    assert step - student - teacher == 3 * fits.total


def test_a_schedule_that_starts_later_is_counted_as_if_it_had_begun(tmp_path: Path) -> None:
    late = tiny.imitation(schedule=dict(type="Warmup", end=400))
    (tmp_path / "late").mkdir()
    found = [
        MODELS.build(Config.fromfile(written(folder, terms=dict(imitation=term))).model)
        for folder, term in ((tmp_path, tiny.imitation()), (tmp_path / "late", late))
    ]
    assert len({_flops(model, SHAPE) for model in found}) == 1


def test_taps_pairs_and_adapters_stand_in_the_tables(tmp_path: Path) -> None:
    soft = dict(type="WeightedSoftLabels", head="roi", weight=0.5)
    text = overview(written(tmp_path, terms=dict(near=tiny.imitation(strides=[8, 16]), soft=soft)), SHAPE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    adapters = 2 * (16 * 24 * 9 + 24)  # 3x3 convolutions with a bias, at two strides

    levels = [f"{stride}" for stride in (4, 8, 16, 32, 64)]
    assert ["neck", *("  ".join(f"{c} @ {s}" for s in levels) for c in (16, 24))] in rows
    assert ["roi.logits", "4 a box", "4 a box"] in rows
    assert ["loss_near", "FeatureImitation", "neck", "8-8  16-16", f"{adapters:,}", "0.01"] in rows
    assert ["loss_soft", "WeightedSoftLabels", "roi.logits", "item by item", "none", "0.5"] in rows
    assert "runs backbone, neck, roi\n" in text
    shares = [float(row[-1].rstrip("%")) for row in rows if row[-1].endswith("%")]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_a_teacher_that_no_weight_asks_for_never_runs(tmp_path: Path) -> None:
    text = overview(written(tmp_path, terms=dict(near=tiny.imitation(weight=0.0))), SHAPE)
    assert "runs never\n" in text
    assert [line.split("|")[3].strip() for line in text.splitlines() if "teacher, forward" in line] == ["0.00 G"]


@pytest.mark.parametrize(
    ("step", "size"),
    [
        (dict(type="Resize", scale=(128, 96), keep_ratio=True), "128x96"),
        (dict(type="RandomChoiceResize", scales=[(160, 96), (128, 64)]), "160x96"),
        (dict(type="ResizeShortestEdge", scale=64, max_size=128), "128x64"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else value,
)
def test_the_size_is_that_of_the_training_pipeline(tmp_path: Path, step: dict[str, Any], size: str) -> None:
    path = written(tmp_path)
    dataset = dict(type="RepeatDataset", dataset=dict(type="CocoDataset", pipeline=[step]))
    cfg = Config(dict(Config.fromfile(path), train_dataloader=dict(dataset=dataset)))
    cfg.dump(path)
    assert f"one step of one {size} image" in overview(path)


def test_the_size_is_found_below_joined_data_sets_too(tmp_path: Path) -> None:
    """As in MMDetection's VOC 07+12."""
    path = written(tmp_path)
    leaf = dict(type="VOCDataset", pipeline=[dict(type="Resize", scale=(128, 96), keep_ratio=True)])
    joined = dict(type="RepeatDataset", dataset=dict(type="ConcatDataset", datasets=[leaf, leaf]))
    Config(dict(Config.fromfile(path), train_dataloader=dict(dataset=joined))).dump(path)
    assert "one step of one 128x96 image" in overview(path)


def test_without_a_size_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"says no size of images; name one: --shape HEIGHT WIDTH"):
        overview(written(tmp_path))


def test_the_tool_prints_the_tables_and_names_what_is_no_distiller(tmp_path: Path) -> None:
    fine = tiny.tool("inspect_config", written(tmp_path), "--shape", 96, 128)
    assert fine.returncode == 0
    assert "one step of one 128x96 image" in fine.stdout
    stock = ROOT / "configs/bccd/faster-rcnn_r18-half_fpn64.py"
    wrong = tiny.tool("inspect_config", stock)
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("model.type='FasterRCNN'; a Distiller is expected\n")
