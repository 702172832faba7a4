"""`python -m benchmarks.group`: one point trained by one process, and by several that a launcher starts, for
every kind of training.

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
from benchmarks.arguments import positive
from benchmarks.table import markdown
from cvfp.data.corpora import open_chitchat

TOLERANCE = 1e-3
"""Relative, of the test PPL: sums in another order, in bf16, over hundreds of steps."""
FIRST_SAMPLES = 50
KINDS = {"two-phase": "cvfp", "joint": "cvfp-joint", "lstm": "lstm"}
"""Every kind of training, and the arm that learns so."""
SMALL = {
    "two-phase": "phase2.steps=200 phase2.eval_every=100",
    "joint": "joint.steps=200 joint.eval_every=100",
    "lstm": "lstm.steps=200 lstm.eval_every=100",
}
LARGE = {
    "two-phase": "phase1.max_iterations=20 phase2.steps=450 phase2.eval_every=150 phase2.batch_size=65536",
    "joint": "joint.steps=450 joint.eval_every=150 joint.chunks=4096",
    "lstm": "lstm.steps=450 lstm.eval_every=150 lstm.sequences=1024",
}
"""Steps of 65,536 tokens."""
_PLAIN = "{0}.dropout=0 {0}.word_dropout=0 {0}.consistency=0"
SAME = {"two-phase": "", "joint": _PLAIN.format("joint"), "lstm": _PLAIN.format("lstm")}
"""Nothing is dropped, which every process does by itself: all numbers of processes learn the same."""
DOCUMENT_TURNS = 100
DOCUMENT_TOKENS = 1250
"""GPT-2 tokens of so many turns, a little fewer than there are on average (1,259)."""
EVALUATED = 1000
"""Documents that no point trains on, at least."""
SEED = 42


@dataclass(frozen=True)
class Measured:
    """One run: tokens per second of each phase by its name, most memory of a process, and what it found."""

    processes: int
    rates: dict[str, float]
    peak_bytes: int
    ppl: float
    document_nats: np.ndarray

    def header(self) -> tuple[str, ...]:
        rates = [cell for phase in self.rates for cell in (f"{phase}, tokens/s", "efficiency")]
        found = ("peak memory, GiB", "test PPL", "nats of a test document, largest difference")
        return ("processes", *rates, *found)

    def row(self, first: Measured) -> tuple[str, ...]:
        rates = []
        for phase, rate in self.rates.items():
            efficiency = rate / first.rates[phase] * first.processes / self.processes
            rates += [f"{rate:,.0f}", f"{efficiency:.0%}"]
        return (
            str(self.processes),
            *rates,
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
    rates = {}
    if point["phase1_iter"] is not None:
        rates["phase 1"] = point["train_tokens"] * (point["phase1_iter"] - 1) / facts["phase1"]["seconds"]
    phase = "phase2" if facts["phase2"] else "training"
    rates[phase.replace("2", " 2")] = point["tokens_seen"] / facts[phase]["seconds"]
    return Measured(
        processes=processes,
        rates=rates,
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
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--processes", type=positive, nargs="+", default=[1, 2])
    parser.add_argument(
        "--tokens", type=positive, help="train on so many made of the default corpus, in large steps"
    )
    parser.add_argument("--profile", action="store_true", help="print what the first process's GPU did")
    parser.add_argument("options", nargs="*", help="of `cvfp run` (after --)")
    arguments = parser.parse_args()
    given, kinds = arguments.options, ["as given"] if arguments.options else arguments.kinds
    settings, same = LARGE if arguments.tokens else SMALL, True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = [] if given else ["--samples", str(FIRST_SAMPLES), "800"]
        if arguments.tokens:
            samples = synthesise(arguments.tokens, folder / "turns.jsonl")
            corpus = ["--corpus", str(folder / "turns.jsonl"), "--samples", str(FIRST_SAMPLES), str(samples)]
        for kind in kinds:
            own = given or ["v3", "--arms", KINDS[kind], "--set", *f"{settings[kind]} {SAME[kind]}".split()]
            options = [*own, *corpus]
            found = {
                number: train(
                    number, arguments.device, options, folder / f"{kind} {number}", arguments.profile
                )
                for number in arguments.processes
            }
            first = found[min(found)]
            rows = [measured.row(first) for measured in found.values()]
            print(f"\n{kind}\n\n{markdown(first.header(), rows)}", flush=True)
            ppls = [measured.ppl for measured in found.values()]
            if max(ppls) > min(ppls) * (1 + TOLERANCE):
                print(f"{kind}: test PPLs differ by more than {TOLERANCE:g}", file=sys.stderr)
                same = False
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
