"""`python -m benchmarks.group`: one point trained by one process, and by several that a launcher starts.

A small point comes before it, which starts the device. Exit code 1 when they do not find the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import member
from benchmarks.table import markdown
from cvfp.data.corpora import open_chitchat

TOLERANCE = 1e-3
"""Relative, of the test PPL: sums in another order, in bf16, over hundreds of steps."""
HEADER = (
    "processes",
    "phase 1, tokens/s",
    "efficiency",
    "phase 2, tokens/s",
    "efficiency",
    "peak memory, GiB",
    "test PPL",
    "nats of a test document, largest difference",
)
FIRST_SAMPLES = 50
SMALL = "v3 --arms cvfp --samples 50 800 --set phase2.steps=200 phase2.eval_every=100"
LARGE = "phase1.max_iterations=20 phase2.steps=150 phase2.eval_every=50 phase2.batch_size=65536"
DOCUMENT_TURNS = 100
DOCUMENT_TOKENS = 1250
"""GPT-2 tokens of so many turns, a little fewer than there are on average (1,259)."""
EVALUATED = 1000
"""Documents that no point trains on, at least."""
SEED = 42


@dataclass(frozen=True)
class Measured:
    """One run: tokens per second of each phase, most memory of a process, and what it found."""

    phase1: float
    phase2: float
    peak_bytes: int
    ppl: float
    document_nats: np.ndarray

    def row(self, processes: int, first: Measured) -> tuple[str, ...]:
        return (
            str(processes),
            f"{self.phase1:,.0f}",
            f"{self.phase1 / first.phase1 / processes:.0%}",
            f"{self.phase2:,.0f}",
            f"{self.phase2 / first.phase2 / processes:.0%}",
            f"{self.peak_bytes / 2**30:.1f}",
            f"{self.ppl:.3f}",
            f"{np.abs(self.document_nats - first.document_nats).max():.1e}",
        )


def train(processes: int, device: str, options: list[str], out: Path, profiled: bool) -> Measured:
    """The largest point of a sweep."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    where = device if processes > 1 or device == "cpu" else f"{device}:0"
    used = out.with_name(f"{out.name}-used")
    used.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    environment |= {member.USED: str(used)} | ({member.PROFILED: "1"} if profiled else {})
    command = [sys.executable, *(launcher if processes > 1 else ()), "-m", "benchmarks.member"]
    command += ["run", *options, "--out", str(out), "--device", where]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/record.json")]
    record = max(records, key=lambda record: record["point"]["train_tokens"])
    point, facts, documents = record["point"], record["facts"], record["test_documents"]
    return Measured(
        phase1=point["train_tokens"] * (point["phase1_iter"] - 1) / facts["phase1"]["seconds"],
        phase2=point["tokens_seen"] / facts["phase2"]["seconds"],
        peak_bytes=max(json.loads(file.read_text())["peak_bytes"] for file in used.iterdir()),
        ppl=point["val_ppl"],
        document_nats=np.array(documents["nats"]) / np.array(documents["tokens"]),
    )


def synthesise(tokens: int, path: Path) -> int:
    """Write documents of turns drawn from the default corpus; how many of them have so many tokens."""
    turns = [turn for document in open_chitchat().read() for turn in document.text.split("\n") if turn]
    chance, count = random.Random(SEED), -(-tokens // DOCUMENT_TOKENS)
    with path.open("w") as file:
        for _ in range(count + EVALUATED):
            file.write(json.dumps({"text": "\n".join(chance.choices(turns, k=DOCUMENT_TURNS))}) + "\n")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.group", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--tokens", type=int, help="train on so many made of the default corpus, in large steps"
    )
    parser.add_argument("--profile", action="store_true", help="print what the first process's GPU did")
    parser.add_argument("options", nargs="*", help="of `cvfp run` (after --)")
    arguments = parser.parse_args()
    options = arguments.options or SMALL.split()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.tokens:
            samples = synthesise(arguments.tokens, folder / "turns.jsonl")
            large = ["v3", "--arms", "cvfp", "--set", *LARGE.split()]
            options = [*(arguments.options or large), "--corpus", str(folder / "turns.jsonl")]
            options += ["--samples", str(FIRST_SAMPLES), str(samples)]
        found = {
            number: train(number, arguments.device, options, folder / str(number), arguments.profile)
            for number in arguments.processes
        }
    first, *_ = found.values()
    print(markdown(HEADER, [measured.row(number, first) for number, measured in found.items()]))
    ppls = [measured.ppl for measured in found.values()]
    same = max(ppls) <= min(ppls) * (1 + TOLERANCE)
    if not same:
        print(f"test PPLs differ by more than {TOLERANCE:g}", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
