"""Draw the imitation masks of a config's first images: one PNG grid per image, and a page to look closer.

Example:
    python tools/compare_masks.py configs/bccd/faster-rcnn_r18-half_fpn64.py --images 2 --psi 0.2 0.5 0.8
"""

import argparse

from mmengine.config import DictAction

from det_distill.pictures.compare import compare_masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a detector's or a Distiller's config")
    parser.add_argument("--images", type=int, default=4, metavar="N", help="how many of the first (default 4)")
    parser.add_argument("--psi", type=float, nargs="+", default=[0.2, 0.5, 0.8], help="default 0.2 0.5 0.8")
    parser.add_argument("--out", help="folder for PNGs and page (default work_dirs/<config name>/masks)")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train", help="default train")
    parser.add_argument("--checkpoint", help="trained weights: the page also shows where the detector looks")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value, changes the config")
    args = parser.parse_args()
    try:
        compare_masks(args.config, args.images, args.psi, args.out, args.split, args.cfg_options, args.checkpoint)
    except (ValueError, OSError) as error:
        raise SystemExit(f"compare_masks: {error}") from error


if __name__ == "__main__":
    main()
