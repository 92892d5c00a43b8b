"""Show how a config is wired, and what a step will cost, before training: taps, levels, adapters, both nets.

Example:
    python tools/inspect_config.py configs/fgfi/bccd_r18_r18-half.py

Why not `inspect.py`: Python looks into a script's own folder first, so every tool here would find that file where it
imports the standard library's `inspect`.
"""

import argparse

from mmengine.config import DictAction

import det_distill.plugins  # noqa: F401 - registers what configs name
from det_distill.overview import overview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a distillation config")
    parser.add_argument("--shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="default: the training images'")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value, changes the config")
    args = parser.parse_args()
    try:
        print(overview(args.config, args.shape, args.cfg_options))
    except (ValueError, OSError) as error:
        raise SystemExit(f"inspect_config: {error}") from error


if __name__ == "__main__":
    main()
