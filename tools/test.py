"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT. MMDetection's flags; no teacher is needed."""

import argparse
import os

from mmengine.config import DictAction

from det_distill import run


def main() -> None:
    parser = argparse.ArgumentParser(description="Test (and evaluate) a detector")
    parser.add_argument("config", help="test config file path, or mmdet::name")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--out", help="dump predictions to a pickle file for offline evaluation")
    parser.add_argument("--show", action="store_true", help="show prediction results")
    parser.add_argument("--show-dir", help="save painted images to work_dir/timestamp/show_dir")
    parser.add_argument("--wait-time", type=float, default=2, help="the interval of show (s)")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    run.add_shared_flags(parser, DictAction)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    run.test(args)


if __name__ == "__main__":
    main()
