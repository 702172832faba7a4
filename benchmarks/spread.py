"""`python -m benchmarks.spread`: one sweep, its points spread over 1, 2, ... GPUs as `cvfp run` does it.

Wall time is that of the whole command, from Python's start to the last record; the tokens are in the cache. A
GPU is idle while no point of it is at work: while its process starts, waits, and after its last point. Exit
code 1 when the perplexities differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import markdown

SWEEP = {
    "arms": ("cvfp", "no-context"),
    "samples": (50, 100, 200, 400),
    "seeds": 3,
}
HEADER = (
    "GPUs",
    "points",
    "wall, s",
    "speed-up",
    "efficiency",
    "idle share of each GPU",
    "largest difference",
)


def run_one(devices: str, out: Path) -> None:
    """The sweep on these devices; when each was busy goes to `busy.json`."""
    from cvfp.lab.messages import Message, PointFinished, PointStarted
    from cvfp.lab.options import RunOptions
    from cvfp.lab.plan import make_plan
    from cvfp.lab.presets import find_spec
    from cvfp.lab.processes import run_on_devices
    from cvfp.training.devices import pick_devices

    began: dict[str, float] = {}
    busy: dict[str, float] = {}

    def watch(message: Message) -> None:
        """Add up how long each worker has been at its points."""
        match message:
            case PointStarted():
                began[message.worker] = time.monotonic()
                busy.setdefault(message.worker, 0.0)
            case PointFinished():
                busy[message.worker] += time.monotonic() - began[message.worker]

    plan = make_plan(find_spec("v3").override(**SWEEP))
    options = RunOptions(checkpoints=False)
    outcome = run_on_devices(plan, out, pick_devices(devices), watch, options)
    (out / "busy.json").write_text(json.dumps({"busy": busy, "done": outcome.done}))


def measure(devices: list[str], out: Path) -> tuple[float, list[float], dict[str, float]]:
    """Wall seconds, busy seconds of each GPU, test PPL of each run."""
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.spread", "--on", ",".join(devices), "--out", str(out)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    wall = time.monotonic() - began
    busy = json.loads((out / "busy.json").read_text())["busy"]
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/record.json")]
    return wall, list(busy.values()), {each["run_hash"]: each["point"]["val_ppl"] for each in records}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spread", description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--on", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.on:
        run_one(arguments.on, arguments.out)
        return 0
    rows, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CVFP_CACHE", str(Path(folder) / "cache"))
        subprocess.run([sys.executable, "-m", "cvfp", "data", "stats"], check=True, stdout=sys.stderr)
        for number in arguments.gpus:
            devices = [f"cuda:{index}" for index in range(number)]
            wall, busy, ppls = measure(devices, Path(folder) / str(number))
            first = first or (wall, ppls)
            speed = first[0] / wall * arguments.gpus[0]
            worst = max(abs(ppl / first[1][name] - 1) for name, ppl in ppls.items())
            idle = ", ".join(f"{1 - seconds / wall:.0%}" for seconds in busy)
            cells = (
                str(number),
                str(len(ppls)),
                f"{wall:.0f}",
                f"{speed:.2f}",
                f"{speed / number:.0%}",
                idle,
            )
            rows.append((*cells, f"{worst:.1e}"))
    print(markdown(HEADER, rows))
    return 0 if all(row[-1] == f"{0:.1e}" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
