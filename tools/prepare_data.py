"""Makes a data set: python tools/prepare_data.py digits [--out data/digits] [--seed 0] [--train 800] [--val 200]."""

import argparse
import functools
from pathlib import Path

from rich.progress import track

from det_distill.datasets import digits

PREPARE = {"digits": digits.prepare}  # name -> function(out, seed, train, val, force, track) -> made anything?


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a data set; it appears whole or not at all.")
    parser.add_argument("name", choices=sorted(PREPARE))
    parser.add_argument("--out", type=Path, help="folder to make, data/NAME by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=800, help="number of training images")
    parser.add_argument("--val", type=int, default=200, help="number of validation images")
    parser.add_argument("--force", action="store_true", help="replace what is there, whatever it is")
    args = parser.parse_args()
    out = args.out or Path("data") / args.name
    bar = functools.partial(track, description=str(out))
    try:
        made = PREPARE[args.name](out, args.seed, args.train, args.val, args.force, bar)
    except ValueError as error:
        parser.error(str(error))
    print(f"made {out}" if made else f"{out} is there already, made with the same settings")


if __name__ == "__main__":
    main()
