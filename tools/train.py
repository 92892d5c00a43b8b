"""Train a detector, with a teacher or without: python tools/train.py CONFIG. MMDetection's flags."""

import argparse
import os

from mmengine.config import DictAction

from det_distill import run


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a detector")
    parser.add_argument("config", help="train config file path, or mmdet::name")
    parser.add_argument("--amp", action="store_true", help="enable automatic-mixed-precision training")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate to the batch size")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="resume from this checkpoint; without a path, from the latest one in the work directory",
    )
    run.add_shared_flags(parser, DictAction)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    run.train(args)


if __name__ == "__main__":
    main()
