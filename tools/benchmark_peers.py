"""Time this toolkit beside MMRazor 1.0.0 on the same two detectors, in turns.

Example:
    make .venv-peers/ready
    .venv-peers/bin/python tools/benchmark_peers.py mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py \
        mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py --out peers.json
"""

import argparse

import det_distill.plugins  # noqa: F401 - registers the Distiller
from det_distill.bench.peers import contest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", help="config of the student, alone")
    parser.add_argument("teacher", help="config of the teacher; its weights are drawn")
    parser.add_argument("--shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(800, 1333))
    parser.add_argument("--batch", type=int, default=2, help="images a step")
    parser.add_argument("--steps", type=int, default=10, help="rounds; medians are told")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", help="JSON file for everything measured")
    try:
        print(contest(**vars(parser.parse_args())))
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"benchmark_peers: {error}") from error


if __name__ == "__main__":
    main()
