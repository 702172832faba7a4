"""`python -m benchmarks`: one table of ratios. Exit code 1 when a fast path does not equal its definition."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys

NAMES = ("contexts", "phase1", "phase2", "joint", "evaluation", "fits", "generation")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES, metavar="NAME")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts its threads, as `cvfp` does
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

    from benchmarks.limits import describe, measure_limits
    from benchmarks.table import HEADER, markdown
    from cvfp.records.errors import CvfpError
    from cvfp.training.devices import pick_device

    try:
        device = pick_device(arguments.device)
    except CvfpError as error:
        parser.error(str(error))
    limits, rows = measure_limits(device), []
    print(describe(device, limits), flush=True)
    for name in arguments.only:
        if importlib.util.find_spec(f"benchmarks.{name}") is None:
            print(f"\nMissing: benchmarks/{name}.py is not there, so the table has no row of it.", flush=True)
            continue
        rows += importlib.import_module(f"benchmarks.{name}").rows(device, limits)
    print(f"\n{markdown(HEADER, (row.cells() for row in rows))}")
    failed = [row for row in rows if not row.check.passed]
    for row in failed:
        print(f"not the definition: {row.what}: {row.check}", file=sys.stderr)
    return 1 if failed else 0


sys.exit(main())
