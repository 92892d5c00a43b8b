"""What `tools/train.py` and `tools/test.py` do: MMDetection's own tools' behaviour, for distillation configs."""

import argparse
from pathlib import Path
from typing import Any

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmdet.registry import RUNNERS
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

import det_distill.plugins  # noqa: F401 - plain configs need the op kernels and the safe loader too
from det_distill import launch
from det_distill.configs import load_config, override
from det_distill.resume import checked, find_start
from det_distill.student.model import student_model


def configure(args: argparse.Namespace) -> Config:
    """Read the config and apply the flags both tools share; work_dir: flag, else config, else the config's name."""
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args.config, "config")
    cfg.launcher = args.launcher
    override(cfg, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    cfg.default_hooks.progress = dict(type="ProgressBarHook")
    launch.join(cfg)
    return cfg


def build_runner(cfg: Config) -> Runner:
    """The runner the config names, MMEngine's by default."""
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def train(args: argparse.Namespace) -> None:
    """Train as `tools/train.py` of MMDetection does."""
    cfg = configure(args)
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if args.auto_scale_lr:
        if not {"enable", "base_batch_size"} <= set(cfg.get("auto_scale_lr", ())):
            raise ValueError("--auto-scale-lr needs auto_scale_lr=dict(enable=..., base_batch_size=...) in the config")
        cfg.auto_scale_lr.enable = True
    told = find_start(cfg, args.resume)
    runner = build_runner(cfg)
    if told:
        runner.logger.warning(told)
    runner.train()


def test(args: argparse.Namespace) -> dict[str, float]:
    """Evaluate as `tools/test.py` of MMDetection does; a distillation config is tested as its plain student.

    The teacher is neither built nor needed: a checkpoint holds the student alone.
    """
    if args.out is not None and not args.out.endswith((".pkl", ".pickle")):
        raise ValueError(f"--out {args.out}: predictions are dumped to a .pkl or .pickle file")
    cfg = configure(args)
    cfg.load_from = checked(args.checkpoint)
    cfg.model = ConfigDict(student_model(cfg.model))
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    if args.tta:
        _augment(cfg)
    runner = build_runner(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    metrics: dict[str, float] = runner.test()
    return metrics


def _augment(cfg: Config) -> None:
    """Test-time augmentation: the config's own, or each image beside its mirror image, as in MMDetection."""
    nms = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
    model: Any = cfg.get("tta_model", dict(type="DetTTAModel", tta_cfg=nms))
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
    flips = [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)]
    twice = dict(type="TestTimeAug", transforms=[flips, [dict(type="PackDetInputs", meta_keys=keys)]])
    dataset.pipeline = cfg.get("tta_pipeline", [*dataset.pipeline[:-1], twice])
    cfg.model = ConfigDict(**model, module=cfg.model)


def add_shared_flags(parser: argparse.ArgumentParser, action: type[argparse.Action]) -> None:
    """The flags that MMDetection's train and test tools have in common."""
    parser.add_argument("--work-dir", help="the folder to save logs, models and metrics")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=action,
        help="settings that override the config, as key=value; a list is written key='[a,b]' or key=a,b",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
