"""Makes, fetches or checks a data set: python tools/prepare_data.py NAME [--root DIR] [--check]."""

import argparse
import sys
from pathlib import Path

from det_distill.datasets.prepare import ROOTS, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description="Make or fetch a data set; it appears whole or not at all.")
    parser.add_argument("name", nargs="?", choices=sorted(ROOTS))
    parser.add_argument("--root", "--out", type=Path, dest="root", help="the data set's own folder, as in its config")
    parser.add_argument("--check", action="store_true", help="look for faults in what is there; 1 if there are any")
    parser.add_argument("--config", type=Path, help="with --check, instead of a name: the data sets of a config")
    parser.add_argument("--seed", type=int, default=0, help="digits only, as the rest")
    parser.add_argument("--train", type=int, default=800, help="number of training images")
    parser.add_argument("--val", type=int, default=200, help="number of validation images")
    parser.add_argument("--force", action="store_true", help="replace what is there, whatever it is")
    args = parser.parse_args()
    if (args.name is None) == (args.config is None) or (args.config and not args.check):
        parser.error("name a data set, or --check --config CONFIG")
    root = args.root or Path(ROOTS.get(args.name, ""))
    try:
        if args.check:
            from det_distill.datasets.check import report  # with MMDetection, which takes seconds

            sys.exit(0 if report(args.name, root, args.config) else 1)
        print(prepare(args.name, root, args.seed, args.train, args.val, args.force))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
