"""Does memory grow with the data? `python -m benchmarks.memory --tokens 1000000 10000000`.

Both phases of a small-vocabulary model on a repeated corpus, each number of tokens in a process of its own.
This file imports nothing large at its top: a process inherits the peak of the one that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

HEADER = (
    "tokens",
    "host memory, peak",
    "of it not files",
    "device memory, peak",
    "phase 1 tokens/s",
    "phase 2 tokens/s",
    "whole fit tokens/s",
)
FIELDS = ("host", "own", "device", "phase1", "phase2", "fit")
DEV_TOKENS = 4096
WARM_UP_TOKENS = 10_000
"""Of a first process that fills the caches, so that no other one trains the tokenizer."""
SAMPLE_SECONDS = 0.02
SETTINGS = {
    "data.tokenizer": "bpe:2048",
    "model.num_input_tokens": 4,
    "model.embed_dim": 256,
    "phase1.max_iterations": 3,
    "phase1.min_iterations": 3,
    "phase1.convergence_rate": 1.0,
    "phase1.convergence_threshold": 1e-30,
    "phase2.epochs": 1,
    "phase2.eval_every": None,
}
"""Two sweeps of phase 1, one pass of phase 2 with one evaluation. Four input tokens of this width drive the
contexts strongly enough that they forget, as those of the presets do: others would have to be rolled out."""


def measure(tokens: int, context_dim: int, device_name: str) -> dict[str, float]:
    """Peak bytes of host and device, and tokens per second of both phases, of this process."""
    import numpy as np
    import torch

    from cvfp.arms.base import Budget
    from cvfp.arms.cvfp import CvfpArm
    from cvfp.data.dataset import open_dataset
    from cvfp.records.config import RunConfig
    from cvfp.training.devices import pick_device

    config = RunConfig.from_settings(SETTINGS | {"model.context_dim": context_dim})
    dataset = open_dataset(config.data, lambda text: print(text, file=sys.stderr))
    train = np.resize(dataset.train(len(dataset.split.pool), config.seed).tokens, tokens)
    device = pick_device(device_name)
    own, started = _PeakOfOwnMemory(), time.perf_counter()
    fitted = CvfpArm(config, dataset.vocab_size).fit(
        train, dataset.dev.tokens[:DEV_TOKENS], Budget(device), config.seed
    )
    fit_seconds, facts = time.perf_counter() - started, fitted.facts
    sweeps = facts.phase1_iter - 1
    return {
        "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "own": own.stop(),
        "device": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
        "phase1": sweeps * tokens / facts.notes["phase1"]["seconds"],
        "phase2": facts.tokens_seen / facts.notes["phase2"]["seconds"],
        "fit": tokens / fit_seconds,
    }


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


def _in_a_process(tokens: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", "--tokens", str(tokens)]
    command += ["--context-dim", str(arguments.context_dim), "--device", arguments.device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{tokens:,} tokens: the process ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _cells(tokens: int, found: dict[str, float]) -> list[str]:
    sizes = [f"{found[name] / 2**20:,.0f} MiB" for name in FIELDS[:3]]
    return [f"{tokens:,}", *sizes, *(f"{found[name]:,.0f}" for name in FIELDS[3:])]


def _ratio_cells(tokens: int, found: dict[str, float], first: dict[str, float]) -> list[str]:
    ratios = [f"{found[name] / first[name]:.2f}" if first[name] else "–" for name in FIELDS]
    return [f"{tokens:,} / the first", *ratios]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1_000_000, 10_000_000])
    parser.add_argument("--context-dim", type=int, default=768)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # both as `cvfp` does
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if arguments.child:
        print(json.dumps(measure(arguments.tokens[0], arguments.context_dim, arguments.device)))
        return
    _in_a_process(WARM_UP_TOKENS, arguments)
    found: dict[int, dict[str, float]] = {}
    for tokens in arguments.tokens:
        found[tokens] = _in_a_process(tokens, arguments)
        print(f"{tokens:,} tokens: {found[tokens]}", file=sys.stderr, flush=True)
    first = found[arguments.tokens[0]]
    rows = [_cells(tokens, one) for tokens, one in found.items()]
    rows += [_ratio_cells(tokens, found[tokens], first) for tokens in arguments.tokens[1:]]

    from benchmarks.table import markdown  # imports torch, so not before the processes have been started

    print(f"d_c {arguments.context_dim}, d_e 256, n 4, V 2,048, {arguments.device}\n")
    print(markdown(HEADER, rows))


if __name__ == "__main__":
    main()
