"""Time a distillation config's step with ever more pixels, images, boxes, terms and teachers.

Example:
    python tools/benchmark_growth.py configs/fgfi/bccd_r18_r18-half.py --folder work_dirs/growth
"""

import argparse

from mmengine.config import DictAction

import det_distill.plugins  # noqa: F401 - registers what configs name
from det_distill.bench.growth import growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="distillation config with one teacher, whose weights are drawn")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; medians are told")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="where five plots and growth.json shall be")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value, changes the config")
    try:
        print(growth(**vars(parser.parse_args())))
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark_growth: {error}") from error


if __name__ == "__main__":
    main()
