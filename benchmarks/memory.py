"""Does memory grow with the data, and speed fall? `python -m benchmarks.memory --tokens 1000000 10000000`.

A repeated corpus, each number of tokens in a process of its own: on a CPU both phases of a small-vocabulary
model, on a GPU the default one in steps of 65,536 tokens. `--places machine host file` shows on a card that
has room for all contexts what it costs when it has not. This file imports nothing large at its top: a process
inherits the peak of the one that started it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.arguments import positive

HEADER = (
    "arm",
    "tokens",
    "contexts beyond the device",
    "host memory, peak",
    "of it not files",
    "device memory, peak",
    "phase 1 tokens/s",
    "its start, s",
    "phase 2 or joint tokens/s",
    "whole fit tokens/s",
)
SIZES, RATES = ("host", "own", "device"), ("phase1", "start", "steps", "fit")
DEV_TOKENS = 4096
WARM_UP_TOKENS = 10_000
"""Of a first process that fills the caches, so that no other one trains the tokenizer."""
SAMPLE_SECONDS = 0.02
SETTINGS = {
    "cpu": {
        "data.tokenizer": "bpe:2048",
        "model.num_input_tokens": 4,
        "model.embed_dim": 256,
        "phase1.max_iterations": 3,
        "phase1.min_iterations": 3,
        "phase2.epochs": 1,
        "phase2.eval_every": None,
        "joint.epochs": 1,
    },
    "cuda": {
        "model.num_input_tokens": 2,
        "phase1.max_iterations": 4,
        "phase1.min_iterations": 4,
        "phase2.batch_size": 65_536,
        "phase2.steps": 150,
        "joint.chunks": 4096,
        "joint.steps": 150,
    },
}
"""A few sweeps of phase 1, one pass or some steps of the rest. On a CPU four input tokens of this width drive
the contexts strongly enough that they forget, as those of the presets do: others would be rolled out."""
ALL_SWEEPS = {"phase1.convergence_rate": 1.0, "phase1.convergence_threshold": 1e-30}
PLACES = ("machine", "host", "file")
"""Where contexts lie that the device has no room for: as the machine decides; in the host's memory or in a
file, the device having little room. Those of phase 2 are solved again where neither of the first two has."""
LITTLE = 1 << 31
"""Bytes of contexts, as many as a span of phase 2 has."""


def measure(arm: str, tokens: int, place: str, context_dim: int, device_name: str) -> dict[str, float]:
    """Peak bytes of host and device, and tokens per second of sweeps and of steps, of this process."""
    import numpy as np
    import torch

    from cvfp.arms.base import Budget, make_arm
    from cvfp.data.dataset import open_dataset
    from cvfp.records.config import RunConfig
    from cvfp.training.devices import pick_device
    from cvfp.training.events import Event

    _confine(place)
    own_settings = {"arm": arm, "model.context_dim": context_dim}
    config = RunConfig.from_settings(SETTINGS[device_name] | ALL_SWEEPS | own_settings)
    dataset = open_dataset(config.data, lambda text: print(text, file=sys.stderr))
    train = np.resize(dataset.train(len(dataset.split.pool), config.seed).tokens, tokens)
    device = pick_device(device_name)
    ends: list[float] = []

    def listen(event: Event) -> None:
        if event.phase == "phase 1":
            ends.append(time.perf_counter())

    own, started = _PeakOfOwnMemory(), time.perf_counter()
    budget, dev = Budget(device, listen), dataset.dev.tokens[:DEV_TOKENS]
    facts = make_arm(config, dataset.vocab_size).fit(train, dev, budget, config.seed).facts
    fit_seconds, notes = time.perf_counter() - started, facts.notes
    sweep = statistics.median(last - first for first, last in pairwise(ends)) if ends else math.nan
    return {
        "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "own": own.stop(),
        "device": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
        "phase1": tokens / sweep,
        "start": notes["phase1"]["seconds"] - len(ends) * sweep if ends else math.nan,
        "steps": facts.tokens_seen / notes["phase2" if ends else "training"]["seconds"],
        "fit": tokens / fit_seconds,
    }


def _confine(place: str) -> None:
    """Have contexts beyond a little lie in this place."""
    from cvfp.training import context_store

    if place == "machine":
        return
    room = context_store.device_bytes
    context_store.device_bytes = lambda device: min(room(device), LITTLE)
    if place == "file":
        context_store.HOST_SHARE = {}


class _PeakOfOwnMemory:
    """Largest resident memory that is not pages of a mapped file, sampled (Linux): those pages can be
    dropped at any time, and `ru_maxrss` counts them."""

    def __init__(self) -> None:
        self.peak, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            status = Path("/proc/self/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
            self.peak = max(self.peak, 1024 * int(line.split()[1]))

    def stop(self) -> int:
        self.ended.set()
        self.thread.join()
        return self.peak


def _in_a_process(arm: str, tokens: int, place: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", "--tokens", str(tokens)]
    command += ["--arms", arm, "--places", place]
    command += ["--context-dim", str(arguments.context_dim), "--device", arguments.device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arm}, {tokens:,} tokens, {place}: the process ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _cells(arm: str, tokens: int, place: str, found: dict[str, float]) -> list[str]:
    sizes = [f"{found[name] / 2**20:,.0f} MiB" for name in SIZES]
    rates = [f"{found[name]:,.{int(name == 'start')}f}" for name in RATES]
    return [arm, f"{tokens:,}", place, *(cell.replace("nan", "–") for cell in (*sizes, *rates))]


def _ratio_cells(arm: str, tokens: int, place: str, found: dict[str, float], first: dict[str, float]) -> list:
    ratios = [f"{found[name] / first[name]:.2f}" if first[name] else "–" for name in (*SIZES, *RATES)]
    return [arm, f"{tokens:,} / the first", place, *(cell.replace("nan", "–") for cell in ratios)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", nargs="+", type=positive, default=[1_000_000, 10_000_000])
    parser.add_argument("--arms", nargs="+", default=["cvfp"], choices=("cvfp", "cvfp-joint"))
    parser.add_argument("--places", nargs="+", default=["machine"], choices=PLACES)
    parser.add_argument("--context-dim", type=positive, default=768)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # both as `cvfp` does
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if arguments.child:
        case = arguments.arms[0], arguments.tokens[0], arguments.places[0]
        print(json.dumps(measure(*case, arguments.context_dim, arguments.device)))
        return
    rows, ratios = [], []
    for arm in arguments.arms:
        _in_a_process(arm, WARM_UP_TOKENS, "machine", arguments)
        first = None
        for tokens in arguments.tokens:
            for place in arguments.places:
                found = _in_a_process(arm, tokens, place, arguments)
                print(f"{arm}, {tokens:,} tokens, {place}: {found}", file=sys.stderr, flush=True)
                rows.append(_cells(arm, tokens, place, found))
                if first is not None:
                    ratios.append(_ratio_cells(arm, tokens, place, found, first))
                first = first or found

    from benchmarks.table import markdown  # imports torch, so not before the processes have been started

    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS[arguments.device].items())
    print(f"{arguments.device}, d_c {arguments.context_dim}, {settings}\n")
    print(markdown(HEADER, rows + ratios))


if __name__ == "__main__":
    main()
