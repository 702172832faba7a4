"""Killing a sweep at random moments until it is done: nothing is done twice, nothing is lost.

`python tests/torture.py --kills 100 --processes 2` runs longer than the suite does.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from lab_helpers import tiny_spec, write_corpus
from process_helpers import CONTEXT
from safetensors.torch import load_file

from cvfp.lab.options import RunOptions
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.lab.sweep_directory import sweep_status
from cvfp.records.plan import Plan

SETTINGS = {
    "phase2.epochs": 20,
    "phase2.patience": 20,
    "phase2.dropout": 0.1,
    "lstm.epochs": 4,
    "lstm.window": 8,
    "lstm.sequences": 4,
    "lstm.eval_every": 5,
}
CALLS = "calls.txt"
"""A line for every training that begins."""


@dataclass(frozen=True)
class Outcome:
    """Sweeps run to their end; kills that hit; trainings begun, and of these after a result."""

    sweeps: int = 0
    kills: int = 0
    begun: int = 0
    again: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.sweeps + other.sweeps,
            self.kills + other.kills,
            self.begun + other.begun,
            self.again + other.again,
        )


ARMS = ("unigram", "kneser-ney", "cvfp", "lstm")


def torture_plan(corpus: Path, arms: tuple[str, ...] = ARMS, samples: tuple[int, ...] = (4, 8, 16)) -> Plan:
    spec = tiny_spec(corpus, arms=arms, samples=samples)
    return make_plan(spec.with_settings(SETTINGS))


def work(plan: Plan, out: Path, ready: Connection | None = None) -> None:
    """One process at work on the sweep, saving at every chance; says when it begins, notes what it trains."""
    from cvfp.lab import runner
    from cvfp.training import savepoint

    savepoint.MOST_OVERHEAD = 1e9
    torch.set_num_threads(1)
    real = runner.run_point

    def noted(point, dataset, budget):
        has_result = (out / "runs" / point.config.run_hash / "record.json").exists()
        note(out, "again" if has_result else "begun", point.config.run_hash)
        return real(point, dataset, budget)

    runner.run_point = noted
    if ready is not None:
        ready.send(True)
    run_sweep(plan, out, torch.device("cpu"), options=RunOptions(save_every=0.0))


def note(out: Path, what: str, run_hash: str) -> None:
    with out.with_suffix(f".{CALLS}").open("a") as file:
        file.write(f"{what} {run_hash}\n")


def undisturbed(plan: Plan, out: Path) -> None:
    """Run what is missing to the end, in a process like those that are killed."""
    process = CONTEXT.Process(target=work, args=(plan, out))
    process.start()
    process.join()
    assert process.exitcode == 0


def begun(plan: Plan, out: Path) -> BaseProcess:
    """A process that is about to work on the sweep."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=work, args=(plan, out, theirs))
    process.start()
    theirs.close()
    ours.recv()
    return process


def torture(plan: Plan, folder: Path, kills: int, processes: int, seed: int, most: float = 2.0) -> Outcome:
    """Kill sweeps of `plan` until `kills` have hit: one that is done before is followed by another."""
    rng, found = random.Random(seed), Outcome()
    while found.kills < kills:
        sweep = folder / f"sweep-{found.sweeps}"
        found += torture_one(plan, sweep, kills - found.kills, processes, rng, most)
    return found


def torture_one(
    plan: Plan, out: Path, kills: int, processes: int, rng: random.Random, most: float
) -> Outcome:
    """Run `plan` in `out` to its end; its first processes are killed within `most` seconds."""
    hits, left = 0, True
    while left and hits < kills:
        workers = [begun(plan, out) for _ in range(processes)]
        for worker in workers:
            time.sleep(rng.uniform(0, most / processes))
            if worker.is_alive():
                hits += 1
            worker.kill()
            worker.join()
        counts = sweep_status(out).counts() if (out / "plan.json").exists() else {"waiting": 1, "running": 0}
        assert counts["running"] == 0
        left = counts["waiting"] > 0
    undisturbed(plan, out)
    calls = Counter(line.split()[0] for line in out.with_suffix(f".{CALLS}").read_text().splitlines())
    return Outcome(1, hits, calls["begun"], calls["again"])


def results(path: Path) -> dict[str, tuple]:
    """Of every run its record without the time it took, and its weights."""
    found = {}
    for run in sorted((path / "runs").iterdir()):
        record = json.loads((run / "record.json").read_text())
        weights = run / "checkpoint" / "model.safetensors"
        tensors = load_file(weights) if weights.exists() else {}
        found[run.name] = (timeless(record), {name: t.numpy().tobytes() for name, t in tensors.items()})
    return found


def timeless(value):
    """A JSON value without seconds, and without the digest that covers them."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if "seconds" not in k and k != "digest"}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=float, default=2.0, help="seconds that a process lives at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = torture_plan(write_corpus(folder))
        undisturbed(plan, folder / "whole")
        found = torture(plan, folder, options.kills, options.processes, options.seed, options.most)
        for number in range(found.sweeps):
            assert results(folder / f"sweep-{number}") == results(folder / "whole"), f"sweep {number} differs"
        print(
            f"{found.kills} kills in {found.sweeps} sweeps of {len(plan.points)} points: "
            f"all records identical; {found.begun} trainings begun, {found.again} of them of finished points"
        )


if __name__ == "__main__":
    main()
