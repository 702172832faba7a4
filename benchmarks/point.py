"""`python -m benchmarks.point`: where the seconds of a small sweep go, from Python's start to its report.

One process runs a sweep of a few sizes, of which the first pays for what is made once. A part's seconds are
without those of the parts inside it, and end when the device has done what it was given.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.arguments import positive
from benchmarks.table import markdown, synchronise

STARTED = "CVFP_BENCHMARK_STARTED"
THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", "OPENBLAS_NUM_THREADS": "1"}
"""As `cvfp` sets them."""
START, REPORT, REST, FIRST_STEPS, STEPS = "start", "report", "the rest", "first steps, kernels made", "steps"
PARTS = {
    "model and table": (
        "cvfp.arms.cvfp:CvfpArm._build",
        "cvfp.arms.joint:JointArm._build",
        "cvfp.arms.sequence:SequenceArm._build",
    ),
    "phase 1": ("cvfp.arms.cvfp:learn_contexts",),
    "contexts of the training text": ("cvfp.arms.cvfp:CvfpArm._training_contexts",),
    "refreshes of the store": ("cvfp.training.joint:Chunks.refresh",),
    "recording a step": ("cvfp.models.replay:_recorded",),
    "dev losses": ("cvfp.training.next_token:TokenLearner.dev_nats",),
    "health of contexts": ("cvfp.arms.cvfp:diagnose", "cvfp.arms.joint:diagnose"),
    "effective rank": ("cvfp.arms.cvfp:effective_rank", "cvfp.arms.joint:rank_of_contexts"),
    "test scores": ("cvfp.arms.base:Fitted.score_with_rank", "cvfp.arms.cvfp:FittedCvfp.score_with_rank"),
    "dev scores": ("cvfp.arms.base:Fitted.nll",),
    "files": (
        "cvfp.lab.sweep_directory:RunDirectory.begin",
        "cvfp.lab.sweep_directory:RunDirectory.write_losses",
        "cvfp.lab.sweep_directory:RunDirectory.finish",
        "cvfp.lab.sweep_directory:SweepDirectory.write_results",
        "cvfp.lab.runner:register_forecasts",
    ),
}
STEP = "cvfp.training.next_token:TokenLearner.step"
EARLY = 4
"""Steps of a training that are written out, or recorded."""


class Stopwatch:
    """Seconds by column and part; inside a part the one around it stands still."""

    def __init__(self, device: torch.device, columns: int) -> None:
        self.device, self.columns, self.column = device, columns, columns - 1
        self.seconds: dict[tuple[int, str], float] = defaultdict(float)
        self.parts = [REST]
        self.since = time.perf_counter()

    def lap(self) -> None:
        """Put what has gone by since the last lap to the part that runs."""
        synchronise(self.device)
        now = time.perf_counter()
        self.seconds[self.column, self.parts[-1]] += now - self.since
        self.since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.lap()
        self.parts.append(name)
        try:
            yield
        finally:
            self.lap()
            self.parts.pop()

    def watch(self, place: str, name: Callable[..., str]) -> None:
        """Have every call of `module:function` or `module:Class.method` timed under the name of its call."""
        module, _, path = place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, last = path.split(".")
        for each in outer:
            owner = getattr(owner, each)
        function = getattr(owner, last)

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name(*arguments)):
                return function(*arguments, **options)

        setattr(owner, last, call)

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each part that took time, and their sums."""
        columns = range(self.columns)
        names = [START, *PARTS, FIRST_STEPS, STEPS, REPORT, REST]
        found = [(name, [self.seconds.get((column, name), 0.0) for column in columns]) for name in names]
        found = [(name, row) for name, row in found if sum(row) >= 0.005]
        sums = [sum(row[column] for _, row in found) for column in columns]
        return [(name, *(f"{value:.2f}" for value in row)) for name, row in [*found, ("all", sums)]]


def inside(device_name: str, arm: str, preset: str, sizes: tuple[int, ...], out: Path) -> None:
    """Run and time the sweep in this process."""
    before = time.time() - float(os.environ[STARTED])
    from cvfp.lab.messages import Message, PointFinished, PointStarted
    from cvfp.lab.options import RunOptions
    from cvfp.lab.plan import make_plan
    from cvfp.lab.presets import find_spec
    from cvfp.lab.runner import run_sweep
    from cvfp.report.write import write_report
    from cvfp.training.devices import pick_device

    device = pick_device(device_name)
    once = len(sizes)
    watch = Stopwatch(device, once + 1)
    watch.seconds[once, START] += before
    for name, places in PARTS.items():
        for place in places:
            watch.watch(place, lambda *_, name=name: name)
    watch.watch(STEP, lambda learner: FIRST_STEPS if learner.steps < EARLY else STEPS)

    def tell(message: Message) -> None:
        if isinstance(message, PointStarted):
            watch.lap()
            watch.column = sizes.index(message.point.config.data.num_samples)
        if isinstance(message, PointFinished):
            watch.lap()
            watch.column = once

    plan = make_plan(find_spec(preset).override(arms=(arm,), samples=sizes))
    with watch.part(START):  # what is opened before the first point
        synchronise(device)
    run_sweep(plan, out, device, tell, RunOptions(checkpoints=False))
    with watch.part(REPORT):
        write_report(out)
    watch.lap()
    used = resource.getrusage(resource.RUSAGE_SELF)
    wall, cpu = sum(watch.seconds.values()), used.ru_utime + used.ru_stime
    header = ("part", *(f"{size} documents, s" for size in sizes), "once, s")
    print(markdown(header, watch.rows()))
    print(f"\n{arm}: {wall:.1f} s, {cpu:.1f} s of CPU, {cpu / wall:.1f} times as much.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.point", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--preset", default="recommended")
    parser.add_argument("--arms", nargs="+", default=["cvfp", "cvfp-joint", "lstm"])
    parser.add_argument("--samples", type=positive, nargs="+", default=[50, 100])
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        sizes = tuple(arguments.samples)
        inside(arguments.device, arguments.arms[0], arguments.preset, sizes, arguments.inside)
        return 0
    for arm in arguments.arms:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.point", "--device", arguments.device]
            command += ["--preset", arguments.preset, "--arms", arm, "--inside", f"{folder}/sweep"]
            command += ["--samples", *map(str, arguments.samples)]
            subprocess.run(command, check=True, env=THREADS | os.environ | {STARTED: str(time.time())})
    return 0


if __name__ == "__main__":
    sys.exit(main())
