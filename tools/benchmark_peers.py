"""Time this toolkit beside MMRazor 1.0.0, or MMDetection's own LD, on the same two detectors, in turns.

Example:
    pip install -e '.[peers]'    # MMRazor; LD needs nothing
    python tools/benchmark_peers.py mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py \
        mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py --out peers.json
    python tools/benchmark_peers.py mmdet::ld/ld_r18-gflv1-r101_fpn_1x_coco.py \
        mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py --shape 240 320
"""

import argparse

import det_distill.plugins  # noqa: F401 - registers the Distiller
from det_distill.bench.peers import contest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", help="config of the student, alone, or of MMDetection's LD")
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
