"""Time a step of distillation configs beside their students' own, in turns.

Example:
    python tools/benchmark.py configs/fgfi/bccd_r18_r18-half.py configs/li/bccd_r18_r18-half.py --out times.json
"""

import argparse

from mmengine.config import DictAction

import det_distill.plugins  # noqa: F401 - registers what configs name
from det_distill.bench.benchmark import benchmark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="distillation configs")
    parser.add_argument("--steps", type=int, default=20, help="rounds; medians are told")
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="default: the training images'")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--untrained", action="store_true", help="draw the teachers' weights, no checkpoints are read")
    parser.add_argument("--out", help="JSON file for all times")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value, changes each config")
    args = parser.parse_args()
    try:
        print(benchmark(**vars(args)))
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from error


if __name__ == "__main__":
    main()
