"""Digits, teacher, student alone, distilled student: python tools/demo.py [--out work_dirs/demo] [--seed 0]."""

import argparse
from pathlib import Path

from det_distill.demo import demo


def main() -> None:
    parser = argparse.ArgumentParser(description="Distil a detector on the digits and print one table")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"), help="folder for everything it makes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    demo(args.out, args.seed)


if __name__ == "__main__":
    main()
