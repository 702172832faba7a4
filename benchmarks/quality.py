"""`python -m benchmarks.quality DIR --dev-ppl X`: seconds that each arm of a sweep took to a stated dev PPL.

Read from what the runs told while they trained (`metrics.jsonl`), both phases and the evaluations included.
An arm that is fitted at once (an n-gram) has its whole wall time; one that never gets there a dash.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.arguments import positive
from cvfp.records.results import PointRecord
from cvfp.records.sweep import Sweep, load_sweep


def seconds_to(sweep: Sweep, point: PointRecord, dev_ppl: float) -> float | None:
    """Seconds from the start of the run to its first evaluation at or below the dev PPL."""
    told = [one for one in sweep.metrics_of(point) if "dev_ppl" in one.values]
    if not told:
        reached = point.dev_ppl is not None and point.dev_ppl <= dev_ppl
        return point.wall_seconds if reached else None
    return next((one.seconds for one in told if one.values["dev_ppl"] <= dev_ppl), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dev-ppl", type=float, required=True)
    parser.add_argument("--documents", type=positive, help="size of the points (default: the largest)")
    asked = parser.parse_args()
    sweep = load_sweep(asked.directory)
    size = asked.documents or max(point.num_samples for point in sweep.points)
    print(f"Dev PPL {asked.dev_ppl:g} at {size:,} documents\n")
    print("| arm | config | seed | seconds to it | lowest dev PPL | seconds in all |")
    print("|---|---|---:|---:|---:|---:|")
    for point in sweep.points:
        if point.num_samples == size and point.status == "done":
            reached = seconds_to(sweep, point, asked.dev_ppl)
            shown = "–" if reached is None else f"{reached:.1f}"
            lowest = "–" if point.dev_ppl is None else f"{point.dev_ppl:.1f}"
            cells = (point.arm, point.config_name, point.seed, shown, lowest, f"{point.wall_seconds:.1f}")
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
