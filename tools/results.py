"""Do every run of a plan that is not done, and print how much of the gap to its teacher each method closes.

Example:
    python tools/results.py configs/results/bccd.py --budgets short --jobs 2
"""

import argparse
from pathlib import Path

from det_distill.bench.results import results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", help="such as configs/results/bccd.py")
    parser.add_argument("--out", help="folder of everything made; by default work_dirs/results/PLAN")
    parser.add_argument("--budgets", nargs="+", help="those to run; all by default")
    parser.add_argument("--methods", nargs="+", help="those to run, `alone` among them; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, help="those to run; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.out = args.out or f"work_dirs/results/{Path(args.plan).stem}"
    try:
        print(results(**vars(args)))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"results: {error}") from error


if __name__ == "__main__":
    main()
