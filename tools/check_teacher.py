"""Check the teacher of a config before training: its weights load strictly, and it knows the data.

Example:
    python tools/check_teacher.py configs/fgfi/bccd_r18_r18-half.py --images 32 --min-map 0.3
"""

import argparse

from mmengine.config import DictAction

import det_distill.plugins  # noqa: F401 - registers what configs name
from det_distill.teachers.check import check_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a distillation config")
    parser.add_argument("--images", type=int, default=32, metavar="N", help="of the validation split (default 32)")
    parser.add_argument("--min-map", type=float, default=0.02, help="the least COCO mAP in [0, 1] (default 0.02)")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value, changes the config")
    args = parser.parse_args()
    try:
        check_teacher(args.config, args.images, args.min_map, args.cfg_options)
    except (ValueError, OSError) as error:
        raise SystemExit(f"check_teacher: {error}") from error


if __name__ == "__main__":
    main()
