"""Detectors and a data set small enough to train in a test, built from the stock configs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image

import det_distill.plugins  # noqa: F401

ROOT = Path(__file__).parents[1]
MODELS_DIR = ROOT / "configs/_base_/models"
CLASSES = ("a", "b", "c")


def faster_rcnn(width: int = 8, fpn: int = 16, classes: int = 3, **preprocessor: Any) -> ConfigDict:
    """Faster R-CNN FPN of ResNet-18 at a given base width."""
    model = Config.fromfile(MODELS_DIR / "faster-rcnn_r18_fpn.py").model
    model.backbone.base_channels = width
    model.neck.update(in_channels=[width, 2 * width, 4 * width, 8 * width], out_channels=fpn)
    model.rpn_head.update(in_channels=fpn, feat_channels=fpn)
    model.roi_head.bbox_roi_extractor.out_channels = fpn
    model.roi_head.bbox_head.update(in_channels=fpn, fc_out_channels=32, num_classes=classes)
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
    model.data_preprocessor.update(preprocessor)
    return model


def c4(width: int = 8, classes: int = 3) -> ConfigDict:
    """Faster R-CNN without a pyramid: RPN and RoI head on the stride-16 map."""
    model = faster_rcnn(width, classes=classes)
    del model["neck"]
    model.backbone.update(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    channels = 4 * width
    model.rpn_head.update(in_channels=channels, feat_channels=channels)
    model.rpn_head.anchor_generator.update(scales=[2, 4, 8], strides=[16])
    model.roi_head.bbox_roi_extractor.update(out_channels=channels, featmap_strides=[16])
    model.roi_head.bbox_head.in_channels = channels
    return model


def rfcn(width: int = 8, classes: int = 3) -> ConfigDict:
    """R-FCN on one map of stride 8, four bins a side."""
    model = Config.fromfile(MODELS_DIR / "rfcn_r18.py").model
    model.backbone.base_channels = width
    model.neck.update(in_channels=[8 * width], out_channels=2 * width)
    model.rpn_head.update(in_channels=2 * width, feat_channels=2 * width)
    model.roi_head.bbox_roi_extractor.in_channels = 2 * width
    model.roi_head.bbox_roi_extractor.roi_layer.output_size = 4
    model.roi_head.bbox_head.num_classes = classes
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
    return model


def rpn(width: int = 8, fpn: int = 16) -> ConfigDict:
    """The bare RPN of `faster_rcnn`."""
    model = faster_rcnn(width, fpn)
    del model["roi_head"]
    model.type = "RPN"
    model.train_cfg = dict(rpn=model.train_cfg.rpn)
    model.test_cfg = dict(rpn=model.test_cfg.rpn)
    return model


SINGLE_STAGE = {
    "retinanet": "retinanet/retinanet_r18_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
}


def single_stage(kind: str, width: int = 8, fpn: int = 16, classes: int = 3, **preprocessor: Any) -> ConfigDict:
    """A stock single-stage detector on ResNet-18 at a given base width, its levels at strides 8 to 128."""
    model = get_config(f"mmdet::{SINGLE_STAGE[kind]}").model
    norm = dict(type="BN", requires_grad=True)
    model.backbone = dict(faster_rcnn(width).backbone, norm_cfg=norm)
    model.neck.update(in_channels=[width, 2 * width, 4 * width, 8 * width], out_channels=fpn)
    model.bbox_head.update(num_classes=classes, in_channels=fpn, feat_channels=fpn, stacked_convs=1)
    if kind != "retinanet":
        model.bbox_head.norm_cfg = dict(type="GN", num_groups=4)
    model.data_preprocessor.update(preprocessor)
    return model


def rtmdet(width: int = 8, classes: int = 3) -> ConfigDict:
    """The smallest RTMDet at a given base width: its maps lie side by side wherever blocks and branches end."""
    model = get_config("mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py").model
    model.backbone.update(widen_factor=width / 64, init_cfg=None)
    model.neck.update(in_channels=[4 * width, 8 * width, 16 * width], out_channels=4 * width)
    model.bbox_head.update(num_classes=classes, in_channels=4 * width, feat_channels=4 * width)
    return model


def dead_beyond_the_student(checkpoint: str, student: ConfigDict | None = None) -> dict[str, Any]:
    """A wider teacher's file with zeros in whatever a student of its layers, `faster_rcnn()`, has no room for."""
    room = MODELS.build(student or faster_rcnn()).state_dict()
    saved: dict[str, Any] = torch.load(checkpoint)
    for name, value in saved["state_dict"].items():
        for dim, size in enumerate(room[name].shape):
            value.narrow(dim, size, value.shape[dim] - size).zero_()
        if name.endswith("running_var"):
            value += 1  # of a dead channel too, or 0 is divided by 0
    return saved


def write_teacher(folder: Path, model: ConfigDict, seed: int = 1) -> dict[str, str]:
    """A config file and a checkpoint of random weights with BN statistics of their own."""
    torch.manual_seed(seed)
    detector = MODELS.build(deepcopy(model))  # DETR writes into it
    for name, value in detector.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else 0.05 * torch.randn_like(value))
    config, checkpoint = folder / "teacher.py", folder / "teacher.pth"
    Config(dict(model=model)).dump(config)
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, checkpoint)
    return dict(config=str(config), checkpoint=str(checkpoint))


def imitation(weight: float = 0.01, tap: str = "neck", **other: Any) -> dict[str, Any]:
    mask = dict(type="AnchorIoUMask", psi=0.5)
    return dict(type="FeatureImitation", tap=tap, mask=mask, weight=weight) | other


def distiller(student: Any, teacher: Any, **other: Any) -> dict[str, Any]:
    return dict(type="Distiller", student=student, teacher=teacher) | (dict(terms=dict(imitation=imitation())) | other)


def batch(count: int = 2, size: tuple[int, int] = (96, 128), boxes: int = 3, seed: int = 0) -> dict[str, Any]:
    """Raw images and ground truth as a data loader hands them to a model."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    inputs, samples = [], []
    for index in range(count):
        inputs.append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
        corner = torch.rand(boxes, 2, generator=generator) * torch.tensor([width - 40, height - 40])
        side = 16 + 24 * torch.rand(boxes, 2, generator=generator)
        sample = DetDataSample(
            metainfo=dict(img_id=index, img_shape=size, ori_shape=size, scale_factor=(1, 1), pad_shape=size)
        )
        labels = torch.randint(0, 3, (boxes,), generator=generator)
        sample.gt_instances = InstanceData(bboxes=torch.cat((corner, corner + side), dim=1), labels=labels)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def losses(model: Any, data: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """One training forward from a fixed random stream."""
    torch.manual_seed(seed)
    model.train()
    return model(**model.data_preprocessor(data, training=True), mode="loss")


def trained_step(data: Any, classes: int) -> tuple[Any, torch.Tensor]:
    """A detector after one backward pass on the first two images of a data set, and its total loss."""
    model = MODELS.build(faster_rcnn(classes=classes))
    told = losses(model, pseudo_collate([data[i] for i in range(2)]))
    total, _ = model.parse_losses(told)
    total.backward()
    return model, total


def tool(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    """`python tools/NAME.py ARGS`, as a user runs it in the project's root."""
    command = [sys.executable, str(ROOT / f"tools/{name}.py"), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


def two_processes(*command: object) -> str:
    """What two processes on CPUs say that torchrun starts with this command."""
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(Path(__file__).parent))
    done = subprocess.run(
        [*ranks, *map(str, command)], capture_output=True, text=True, timeout=600, check=False, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def write_dataset(folder: Path, images: int = 8, size: tuple[int, int] = (64, 96)) -> Path:
    """A COCO data set of coloured rectangles on noise."""
    rng = np.random.default_rng(0)
    height, width = size
    annotations, entries = [], []
    (folder / "images").mkdir(parents=True)
    for index in range(images):
        image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            x, y = int(rng.integers(0, width - 40)), int(rng.integers(0, height - 40))
            w, h = (int(side) for side in rng.integers(16, 40, 2))
            kind = int(rng.integers(0, 3))
            image[y : y + h, x : x + w, kind] = 220
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=index, category_id=kind, bbox=[x, y, w, h], area=w * h, iscrowd=0
                )
            )
        Image.fromarray(image).save(folder / f"images/{index}.png")
        entries.append(dict(id=index, file_name=f"{index}.png", height=height, width=width))
    categories = [dict(id=k, name=name) for k, name in enumerate(CLASSES)]
    content = dict(images=entries, annotations=annotations, categories=categories)
    (folder / "all.json").write_text(json.dumps(content))
    return folder


class Interrupt(Hook):
    """Stops a run, as Ctrl-C does, when a step has been made."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def trained(cfg: Any, *hooks: Hook, stop: Hook | None = None) -> Runner:
    """The Runner of a config after its training, or after `stop` interrupted it."""
    runner = Runner.from_cfg(cfg)
    for hook in (*hooks, *([stop] if stop else [])):
        runner.register_hook(hook)
    with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
        runner.train()
    return runner


@cache
def shipped(name: str) -> Config:
    """The config `configs/<name>.py`."""
    return Config.fromfile(ROOT / f"configs/{name}.py")


def shipped_base(name: str) -> Config:
    """The first base of `configs/<name>.py`: its plain student."""
    file = ROOT / f"configs/{name}.py"
    base = next(line for line in file.read_text().splitlines() if "_base_ =" in line).split('"')[1]
    return Config.fromfile(file.parent / base)


def shipped_distiller(name: str) -> Any:
    """A shipped config's Distiller; its teacher keeps random weights, for nobody has the file here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("det_distill.teachers.teacher.load_strictly", lambda *_: None)
        return MODELS.build(deepcopy(shipped(name).model))


def as_it_is(text: str, **_: Any) -> tuple[str, bool]:
    """A formatter that leaves a config's text alone: to lay it out takes longer than a training here."""
    return text, True


def format_configs(monkeypatch: pytest.MonkeyPatch, by: Callable[..., Any]) -> None:
    """Have configs' text laid out by another formatter. The two stacks look it up in two places."""
    for home in ("mmengine.config.config", "yapf.yapflib.yapf_api"):
        monkeypatch.setattr(f"{home}.FormatCode", by, raising=False)


def run_config(data: Path, work_dir: Path, model: Any, **other: Any) -> Config:
    """A complete, stock training config over `write_dataset`'s folder."""
    size = (96, 64)
    train = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=size, keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ]
    test = [train[0], train[2], train[1], dict(type="PackDetInputs")]
    dataset = dict(
        type="CocoDataset", data_root=str(data), ann_file="all.json", data_prefix=dict(img="images/"),
        metainfo=dict(classes=CLASSES),
    )  # fmt: skip
    loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
    valid = loader | dict(
        sampler=dict(type="DefaultSampler", shuffle=False), dataset=dataset | dict(pipeline=test, test_mode=True)
    )
    cfg = Config.fromfile(MODELS_DIR.parent / "default_runtime.py")
    cfg.merge_from_dict(
        dict(
            model=model,
            work_dir=str(work_dir),
            train_dataloader=loader
            | dict(sampler=dict(type="DefaultSampler", shuffle=True), dataset=dataset | dict(pipeline=train)),
            val_dataloader=valid,
            test_dataloader=valid,
            val_evaluator=dict(type="CocoMetric", ann_file=str(data / "all.json"), metric="bbox"),
            test_evaluator=dict(type="CocoMetric", ann_file=str(data / "all.json"), metric="bbox"),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=3, val_interval=1),
            val_cfg=dict(type="ValLoop"),
            test_cfg=dict(type="TestLoop"),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9)),
            custom_hooks=[dict(type="AdapterStateHook"), dict(type="ExactResumeHook")]
            if dict(model)["type"] == "Distiller"
            else [],
            log_level="ERROR",
            randomness=dict(seed=0, deterministic=True),
            experiment_name=f"{work_dir.name}-{np.random.default_rng().integers(1 << 60)}",
        )
    )
    cfg.merge_from_dict(other)
    return cfg
