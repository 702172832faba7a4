"""`python -m benchmarks.spread`: one sweep, its points spread over 1, 2, ... GPUs as `cvfp run` does it.

Compared is the same command on more GPUs, each of which is given as many processes as keep it busy: the first
row too. Wall time is that of the whole command, from Python's start to the last record; the tokens are in the
cache, and a small sweep beforehand has compiled the kernels. A GPU is idle while no kernel runs on it, by
NVML, which is asked through nvidia-ml-py; `begun` is when the last GPU began its first point. Exit code 1
when the perplexities differ.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.arguments import positive
from benchmarks.point import THREADS
from benchmarks.table import markdown
from cvfp.lab.messages import Message, PointStarted
from cvfp.lab.meters import NvmlMeter
from cvfp.lab.on_devices import run_on_devices
from cvfp.lab.options import RunOptions
from cvfp.lab.plan import make_plan
from cvfp.lab.presets import find_spec
from cvfp.training.devices import pick_devices

ARMS, SAMPLES = ("cvfp", "no-context"), (50, 100, 200, 400)
FOUND = "found.json"
SAMPLE_SECONDS = 0.2
HEADER = (
    "GPUs",
    "points",
    "processes on each GPU",
    "begun, s",
    "wall, s",
    "speed-up",
    "efficiency",
    "idle share of each GPU",
    "CPU, s",
    "largest difference of a test PPL",
)


# --- One command.


class Watch:
    """When each worker began its first point."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def __call__(self, message: Message) -> None:
        if isinstance(message, PointStarted):
            self.began.setdefault(message.worker, time.time())

    def processes(self, devices: Sequence[torch.device]) -> list[int]:
        """How many on each device have begun a point."""
        counts = Counter(self._gpu(worker) for worker in self.began)
        return [counts[str(device)] for device in devices]

    def begun(self) -> float:
        """When the last GPU began its first point."""
        first = {self._gpu(worker): at for worker, at in reversed(self.began.items())}
        return max(first.values())

    @staticmethod
    def _gpu(worker: str) -> str:
        return worker.partition(" ")[0]


@contextmanager
def busy_seconds(devices: Sequence[torch.device]) -> Iterator[list[float]]:
    """Seconds in which each device ran a kernel, of those that the block takes."""
    meter, ended, seconds = NvmlMeter(devices), threading.Event(), [0.0] * len(devices)

    def watch() -> None:
        last = time.monotonic()
        while not ended.wait(SAMPLE_SECONDS):
            now = time.monotonic()
            for index, device in enumerate(devices):
                reading = meter.read(device)
                seconds[index] += (now - last) * (0.0 if reading is None else reading.busy)
            last = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()


def run_one(names: str, samples: Sequence[int], seeds: int, out: Path) -> None:
    """The sweep on these devices; what was seen of them goes to a file in `out`."""
    plan = make_plan(find_spec("v3").override(arms=ARMS, samples=tuple(samples), seeds=seeds))
    devices, watch = pick_devices(names), Watch()
    with busy_seconds(devices) as busy:
        run_on_devices(plan, out, devices, watch, RunOptions(checkpoints=False))
    found = {"busy": busy, "processes": watch.processes(devices), "begun": watch.begun()}
    (out / FOUND).write_text(json.dumps(found))


# --- The same command on several numbers of GPUs.


@dataclass(frozen=True)
class Measured:
    """A command from outside: wall and CPU seconds, what was seen of its GPUs, test PPL of each run."""

    wall: float
    cpu: float
    begun: float
    idle: list[float]
    processes: list[int]
    ppls: dict[str, float]


def measure(gpus: int, samples: Sequence[int], seeds: int, out: Path) -> Measured:
    """Run the sweep on the first GPUs, in a Python of its own."""
    devices = ",".join(f"cuda:{index}" for index in range(gpus))
    command = [sys.executable, "-m", "benchmarks.spread", "--on", devices, "--out", str(out)]
    command += ["--seeds", str(seeds), "--samples", *map(str, samples)]
    began, cpu = time.time(), cpu_seconds()
    subprocess.run(command, check=True, stdout=sys.stderr, env=THREADS | os.environ)
    wall = time.time() - began
    found = json.loads((out / FOUND).read_text())
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/record.json")]
    return Measured(
        wall,
        cpu_seconds() - cpu,
        found["begun"] - began,
        [1 - seconds / wall for seconds in found["busy"]],
        found["processes"],
        {each["run_hash"]: each["point"]["val_ppl"] for each in records},
    )


def cpu_seconds() -> float:
    """What all processes that were started here, and have ended, took of the CPU."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(gpus: int, one: Measured, first_gpus: int, first: Measured) -> tuple[str, ...]:
    """A row of the table, beside the first one."""
    speed = first.wall / one.wall * first_gpus
    worst = max(abs(ppl / first.ppls[name] - 1) for name, ppl in one.ppls.items())
    return (
        str(gpus),
        str(len(one.ppls)),
        ", ".join(map(str, one.processes)),
        f"{one.begun:.0f}",
        f"{one.wall:.0f}",
        f"{speed:.2f}",
        f"{speed / gpus:.0%}",
        ", ".join(f"{share:.0%}" for share in one.idle),
        f"{one.cpu:.0f}",
        f"{worst:.1e}",
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spread", description=__doc__)
    parser.add_argument("--gpus", type=positive, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=positive, default=3, help="draws of the documents: 8 points each")
    parser.add_argument("--samples", type=positive, nargs="+", default=SAMPLES, help=argparse.SUPPRESS)
    parser.add_argument("--on", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.on:
        run_one(arguments.on, arguments.samples, arguments.seeds, arguments.out)
        return 0
    rows, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CVFP_CACHE", str(Path(folder) / "cache"))
        measure(1, (SAMPLES[0], SAMPLES[-1]), 1, Path(folder) / "warm")
        for gpus in arguments.gpus:
            found = measure(gpus, arguments.samples, arguments.seeds, Path(folder) / str(gpus))
            first = first or found
            rows.append(row(gpus, found, arguments.gpus[0], first))
            print(dict(zip(HEADER, rows[-1], strict=True)), file=sys.stderr)
    print(markdown(HEADER, rows))
    return 0 if all(cells[-1] == f"{0:.1e}" for cells in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
