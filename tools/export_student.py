"""Take the student out of a training checkpoint: weights alone, its plain config beside them.

Example:
    python tools/export_student.py work_dirs/bccd_r18_r18-half/epoch_6.pth student.pth
"""

import argparse

import det_distill.plugins  # noqa: F401 - registers what configs name
from det_distill.export.student import export_student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of a training run")
    parser.add_argument("out", help="the .pth to write; its config gets the same name with .py")
    parser.add_argument("--config", help="the run's config, where the checkpoint does not hold it")
    parser.add_argument("--onnx", action="store_true", help="write a graph too, .onnx for .pth, checked on test images")
    parser.add_argument(
        "--shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of its input; default: as trained"
    )
    args = parser.parse_args()
    try:
        written = export_student(args.checkpoint, args.out, args.config, args.onnx, args.shape)
    except (ValueError, OSError) as error:
        raise SystemExit(f"export_student: {error}") from error
    print("\n".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in written))


if __name__ == "__main__":
    main()
