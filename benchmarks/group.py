"""`python -m benchmarks.group`: one point trained by one process, and by several that a launcher starts.

Exit code 1 when they do not find the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import markdown

TOLERANCE = 1e-3
"""Relative, of the test PPL: sums in another order, in bf16, over hundreds of steps."""
HEADER = ("processes", "phase 1, s", "ratio", "phase 2, s", "ratio", "test PPL")


def train(processes: int, device: str, options: list[str], out: Path) -> dict[str, Any]:
    """The record of the one point of the sweep."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    where = device if processes > 1 or device == "cpu" else f"{device}:0"
    command = [sys.executable, *(launcher if processes > 1 else ()), "-m", "cvfp", "run", *options]
    threads = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    subprocess.run(
        [*command, "--out", str(out), "--device", where], check=True, env=threads, stdout=sys.stderr
    )
    (record,) = out.glob("runs/*/record.json")
    return json.loads(record.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.group", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("options", nargs="*", help="of `cvfp run`: a sweep with one point (after --)")
    arguments = parser.parse_args()
    default = [
        "v3",
        "--arms",
        "cvfp",
        "--samples",
        "800",
        "--set",
        "phase2.steps=200",
        "phase2.eval_every=100",
    ]
    with tempfile.TemporaryDirectory() as folder:
        records = [
            train(number, arguments.device, arguments.options or default, Path(folder) / str(number))
            for number in arguments.processes
        ]
    rows, first = [], None
    for number, record in zip(arguments.processes, records, strict=True):
        seconds = [record["facts"][phase]["seconds"] for phase in ("phase1", "phase2")]
        first = first or seconds
        ratios = [f"{before / now:.2f}" for before, now in zip(first, seconds, strict=True)]
        ppl = record["point"]["val_ppl"]
        rows.append(
            (str(number), f"{seconds[0]:.1f}", ratios[0], f"{seconds[1]:.1f}", ratios[1], f"{ppl:.3f}")
        )
    print(markdown(HEADER, rows))
    ppls = [record["point"]["val_ppl"] for record in records]
    same = max(ppls) <= min(ppls) * (1 + TOLERANCE)
    if not same:
        print(f"test PPLs differ by more than {TOLERANCE:g}", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
